"""Invented histories, played through both paths."""
