"""Turns databases and tables of a lake into Parquet files, which are then read like any other."""
