"""Damaged and malicious variants of ONNX models: bytes that changed, and fields that lie."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

NUMBERS = (0, 1, -1, 2, 3, 7, 16, 63, 64, 70, 255, 1 << 15, 1 << 31, (1 << 31) - 1, -(1 << 31), 1 << 40, (1 << 63) - 1)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e38, -3.4e38, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "",
    "x",
    "y",
    "Gemm",
    "Relu",
    "Reshape",
    "Slice",
    "Expand",
    "Range",
    "If",
    "ai.onnx.ml",
    "a\0b",
    "n" * 5000,
    "\u202e",
)
BYTES = (b"", b"\0", b"\xff" * 7, b"\0" * 64, bytes(range(256)))


def mutated(model: onnx.ModelProto, seed: int) -> bytes:
    """Return the bytes of a model with some changes: three in four change fields, the others bytes."""
    rng = random.Random(seed)
    if rng.random() < 0.25:
        return damaged(model.SerializeToString(), rng)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        rng.choice(CHANGES)(copy, rng)
    return copy.SerializeToString()


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return bytes of which some are changed, left out, repeated, or cut off."""
    bytes_ = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(max(len(bytes_), 1))
        size = rng.choice((1, 1, 2, 8, 40))
        match rng.randrange(5):
            case 0:
                bytes_[start : start + size] = rng.randbytes(size)
            case 1:
                del bytes_[start : start + size]
            case 2:
                bytes_[start:start] = bytes_[start : start + size]
            case 3:
                bytes_[start : start + 1] = bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF))])
            case 4:
                del bytes_[max(start, 1) :]
    return bytes(bytes_)


def _messages(message: Message) -> list[Message]:
    """Return a message and all messages in it."""
    found = [message]
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in value if field.is_repeated else (value,):
                found += _messages(inner)
    return found


def _change_field(model: onnx.ModelProto, rng: random.Random) -> None:
    """Give a field, set or not, another value of its type."""
    message = rng.choice(_messages(model))
    fields = [f for f in message.DESCRIPTOR.fields if f.type != FieldDescriptor.TYPE_MESSAGE]
    present = [f for f, _ in message.ListFields() if f in fields]
    if not fields:
        return
    field = rng.choice(present if present and rng.random() < 0.8 else fields)
    value = _value(field, rng)
    if not field.is_repeated:
        setattr(message, field.name, value)
        return
    items = getattr(message, field.name)
    if items and rng.random() < 0.7:
        items[rng.randrange(len(items))] = value
    else:
        items.append(value)


def _value(field: FieldDescriptor, rng: random.Random) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return rng.choice(TEXTS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.choice(BYTES)
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return rng.choice(FLOATS)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return rng.choice([value.number for value in field.enum_type.values])
    if field.type == FieldDescriptor.TYPE_UINT64:
        return abs(rng.choice(NUMBERS))
    if field.type == FieldDescriptor.TYPE_INT32:
        return max(min(rng.choice(NUMBERS), (1 << 31) - 1), -(1 << 31))
    return rng.choice(NUMBERS)


def _repeat_or_remove(model: onnx.ModelProto, rng: random.Random) -> None:
    """Remove, double or swap the items of a repeated field."""
    lists = [
        (message, field)
        for message in _messages(model)
        for field, value in message.ListFields()
        if field.is_repeated and len(value)
    ]
    message, field = rng.choice(lists)
    items = getattr(message, field.name)
    index = rng.randrange(len(items))
    kept = list(items)
    match rng.randrange(3):
        case 0:
            del kept[index]
        case 1:
            kept.insert(index, kept[rng.randrange(len(kept))])
        case 2:
            other = rng.randrange(len(kept))
            kept[index], kept[other] = kept[other], kept[index]
    copies = [_copied(item) for item in kept]
    del items[:]
    items.extend(copies)


def _copied(item: Any) -> Any:
    if not isinstance(item, Message):
        return item
    copy = type(item)()
    copy.CopyFrom(item)
    return copy


def _remove_field(model: onnx.ModelProto, rng: random.Random) -> None:
    message = rng.choice(_messages(model))
    if fields := [field for field, _ in message.ListFields()]:
        message.ClearField(rng.choice(fields).name)


def _rewire(model: onnx.ModelProto, rng: random.Random) -> None:
    """Let a node read or make another tensor: loops, wrong kinds, names that nobody makes."""
    nodes = [node for node in model.graph.node if node.input or node.output]
    if not nodes:
        return
    names = [*(n for node in nodes for n in (*node.input, *node.output)), *(t.name for t in model.graph.initializer)]
    node = rng.choice(nodes)
    slots = rng.choice([s for s in (node.input, node.output) if s])
    slots[rng.randrange(len(slots))] = rng.choice(names)


def _into_a_function(model: onnx.ModelProto, rng: random.Random) -> None:
    """Make a node call a function that calls others, now and then itself."""
    if not model.graph.node:
        return
    depth = rng.choice((1, 3, 40))
    for number in range(depth):
        inner = f"F{number + 1}" if number + 1 < depth else rng.choice(("Relu", "F0"))
        domain = "made" if inner.startswith("F") else ""
        body = [onnx.helper.make_node(inner, [a], [b], domain=domain) for a, b in (("a", "t"), ("t", "b"))]
        opsets = [*model.opset_import, onnx.helper.make_opsetid("made", 1)]
        model.functions.append(onnx.helper.make_function("made", f"F{number}", ["a"], ["b"], body, opsets))
    model.opset_import.append(onnx.helper.make_opsetid("made", 1))
    node = rng.choice(model.graph.node)
    node.op_type, node.domain = "F0", "made"


CHANGES: tuple[Callable[[onnx.ModelProto, random.Random], None], ...] = (
    _change_field,
    _change_field,
    _change_field,
    _repeat_or_remove,
    _remove_field,
    _rewire,
    _rewire,
    _into_a_function,
)
