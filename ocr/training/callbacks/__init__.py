"""Lightning callbacks: a file each, switched on in configs/callbacks."""
