"""Jobs that the console starts, and the run folders that it shows."""
