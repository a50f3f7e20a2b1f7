"""Handwritten digits, 28x28 pixels: two convolutions, two pools and a layer (55,860 products)."""
