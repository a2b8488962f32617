"""What a source promises of its rows beside their types (S5): rules of a row, and of all rows."""
