"""A plugin for ml2sc: the operator Shrink, the pass `prune`, the target `python`."""
