"""Why two paths differ."""
