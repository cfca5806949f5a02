"""The jobs that the runners start: a file per job, read from top to bottom."""
