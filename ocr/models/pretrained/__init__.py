"""PP-OCR's weights."""
