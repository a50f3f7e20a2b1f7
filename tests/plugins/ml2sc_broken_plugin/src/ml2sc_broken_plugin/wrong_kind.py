"""What the entry point says is an operator is none."""


class Elu:
    """Looks like one."""
