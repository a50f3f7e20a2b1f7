"""ml2sc."""
