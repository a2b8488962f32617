"""What is kept of what happened: pushes, who is forgotten, what was served."""
