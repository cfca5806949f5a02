"""Colours and outlines, for overlays, worst batches and plots."""
