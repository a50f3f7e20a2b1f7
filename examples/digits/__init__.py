"""Handwritten digits, 8x8 pixels (64-32-10)."""
