"""Tools of others: a module for each, which alone imports it, and an extra of the same name."""
