"""The resident processes, which have what the server must not wait for: torch, configs, detectors."""

SLIDERS = ("thresh", "box_thresh", "unclip_ratio")  # of ocr.pipeline.PostProcess, that the page Look moves
