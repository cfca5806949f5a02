"""Pixels: decode, resize, random crop and light."""
