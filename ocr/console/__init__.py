"""The web interface: starts jobs as processes, reads run folders, imports no torch."""
