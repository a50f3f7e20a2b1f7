"""Breast cancer (30-4-4-1): the network of the ML2SC paper."""
