"""Projects around a compiled contract, for the tools that its users have."""
