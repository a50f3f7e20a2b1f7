"""Which customers leave: boosted trees on a table of raw columns, categories among them (100 trees of depth 3)."""
