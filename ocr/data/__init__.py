"""Files on disk to samples to batches."""
