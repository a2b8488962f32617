"""Turns compiled definitions and manifests into a graph: from the columns of sources to training
sets."""
