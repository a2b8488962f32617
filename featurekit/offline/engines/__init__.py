"""Runs the join of a view bucket by bucket on other processes or machines.

`protocol` says what an engine is: something that applies a function to texts of bytes, somewhere. A
`unit` is one bucket of one view's join, and `spread` hands the units out and puts their results
together. Ray and Spark each have a module, which alone imports them.
"""
