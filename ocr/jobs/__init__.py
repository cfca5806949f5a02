"""What the runners run: a file per job, read from top to bottom."""
