"""What is in force in a project: its configuration, registry and versions."""
