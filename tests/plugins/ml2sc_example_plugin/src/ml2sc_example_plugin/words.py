"""The EVM's operations on 256-bit words. What follows this docstring is pasted into every source that is emitted."""

WORD = 1 << 256
MASK = WORD - 1


def signed(word: int) -> int:
    """Return the two's complement value of a word."""
    return word - WORD if word >> 255 else word


def add(a: int, b: int) -> int:
    return (a + b) & MASK


def sub(a: int, b: int) -> int:
    return (a - b) & MASK


def mul(a: int, b: int) -> int:
    return (a * b) & MASK


def div(a: int, b: int) -> int:
    return a // b if b else 0


def sdiv(a: int, b: int) -> int:
    a, b = signed(a), signed(b)
    quotient = abs(a) // abs(b) if b else 0
    return (quotient if (a < 0) == (b < 0) else -quotient) & MASK


def mod(a: int, b: int) -> int:
    return a % b if b else 0


def and_(a: int, b: int) -> int:
    return a & b


def or_(a: int, b: int) -> int:
    return a | b


def xor(a: int, b: int) -> int:
    return a ^ b


def shl(bits: int, a: int) -> int:
    return (a << bits) & MASK if bits < 256 else 0


def shr(bits: int, a: int) -> int:
    return a >> bits if bits < 256 else 0


def sar(bits: int, a: int) -> int:
    return (signed(a) >> min(bits, 255)) & MASK


def lt(a: int, b: int) -> int:
    return int(a < b)


def gt(a: int, b: int) -> int:
    return int(a > b)


def slt(a: int, b: int) -> int:
    return int(signed(a) < signed(b))


def sgt(a: int, b: int) -> int:
    return int(signed(a) > signed(b))


def eq(a: int, b: int) -> int:
    return int(a == b)


def iszero(a: int) -> int:
    return int(a == 0)


def byte(i: int, a: int) -> int:
    return a >> (248 - 8 * i) & 255 if i < 32 else 0


def load(packed: bytearray, offset: int) -> int:
    """Return 32 bytes of the packed input as a word, zeros past its end."""
    return int.from_bytes(packed[offset : offset + 32].ljust(32, b"\0"), "big")


def store(packed: bytearray, offset: int, width: int, value: int) -> None:
    """Write the low bytes of a word to the packed input."""
    packed[offset : offset + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "big")
