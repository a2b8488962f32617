"""Turns a project into a catalogue of static pages: `write_site` in `write.py` is its entrance."""
