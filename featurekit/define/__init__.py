"""Turns what users write (entities, sources, views, services) into compiled plans."""
