"""What users write, and what it compiles to."""
