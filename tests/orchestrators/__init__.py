"""The files of `featurekit pipeline export`, read and run by the tools that they are for."""
