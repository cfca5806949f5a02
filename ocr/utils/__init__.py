"""Helpers with documented import paths."""
