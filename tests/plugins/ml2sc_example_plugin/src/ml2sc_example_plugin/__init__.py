"""A plugin for ml2sc: the operator HardSigmoid, the pass `prune`, the target `python`."""
