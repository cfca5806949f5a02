"""Heads: fused map to probability and threshold maps."""
