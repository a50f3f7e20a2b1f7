"""MNIST digits padded to 32x32 pixels: ResNet-8 at a quarter of its width (790,688 products)."""
