"""An entity's state in a view: its bytes, and how events change it."""
