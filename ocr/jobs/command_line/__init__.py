"""Hydra command lines: job facts, resume, log lines."""
