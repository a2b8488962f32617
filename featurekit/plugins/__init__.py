"""Tools of others: a module for each, which alone imports or runs it, and an extra of the same
name."""
