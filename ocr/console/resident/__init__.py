"""The resident processes, which have what the server must not wait for: torch, configs, detectors."""
