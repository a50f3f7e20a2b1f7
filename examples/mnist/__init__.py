"""Handwritten digits, 28x28 pixels (784-32-10)."""
