"""What is in force: configuration, registry, versions."""
