"""Colours, outlines and plots, for overlays, worst batches, tables of a test and of a tuning."""
