"""The kinds of streams that events are taken from."""
