"""Benchmarks: the time that each part of a training and a test takes."""
