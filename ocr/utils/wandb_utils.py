"""The documented import path of the W&B helpers, which live in :mod:`ocr.tracking`."""

from ocr.tracking.credentials import load_env_variables
from ocr.tracking.naming import generate_run_name
from ocr.tracking.summary import finalize_run

__all__ = ["finalize_run", "generate_run_name", "load_env_variables"]
