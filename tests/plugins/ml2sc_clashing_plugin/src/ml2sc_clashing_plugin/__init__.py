"""A pass that another plugin has, and a target that ml2sc has: neither is ever loaded."""
