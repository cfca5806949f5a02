"""The Lightning module, its callbacks, and the jobs that the runners start."""
