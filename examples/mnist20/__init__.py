"""Handwritten digits, the inner 20x20 pixels of MNIST (400-32-16-10)."""
