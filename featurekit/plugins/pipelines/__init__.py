"""One pipeline, written as the files of many tools: a module for each, which imports nothing of the
tool.

`pipeline` says what a pipeline is, and `export` finds the module of a tool."""
