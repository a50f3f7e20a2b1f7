"""Small classifiers to compile, and the scripts that trained them."""
