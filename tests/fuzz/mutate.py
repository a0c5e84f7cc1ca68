"""Inputs that are nearly right."""

from __future__ import annotations

import copy
import json
import random
import re
from typing import Any

_NUMBERS = [
    b"0",
    b"-1",
    b"2147483648",
    b"9223372036854775808",
    b"1e999",
    b"nan",
    b"9" * 5000,
    b"0x1",
    b"1.5",
    b"",
]
_VALUES: list[Any] = [
    None, True, 0, -1, 1.5, float("nan"), float("inf"), 2**63, "", "x", "../../etc/passwd", "a\0b", "\ud800",
    [], {}, [[]], [1, 2, 3, 4], {"a": 1},
]  # fmt: skip


def mutated(seeds: list[bytes], chance: random.Random) -> bytes:
    """One of ``seeds``, changed in a few places: as JSON where it is JSON, else as bytes."""
    seed = chance.choice(seeds)
    if seed[:1] == b"{" and seed.count(b"\n") == 0 and chance.random() < 0.7:
        return json.dumps(_tree(json.loads(seed), chance)).encode("utf-8", "surrogatepass")
    data = bytearray(seed)
    for _ in range(chance.choice([1, 1, 2, 4, 16])):
        at, size = chance.randrange(len(data) + 1), chance.choice([1, 4, 16, 256])
        match chance.randrange(6):
            case 0 if data:
                data[at % len(data)] ^= 1 << chance.randrange(8)
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = chance.randbytes(size)
            case 3:
                data[at:at] = data[at : at + size] * chance.choice([1, 10])
            case 4:
                data[at:] = chance.choice(seeds)[at:]
            case _:
                numbers = list(re.finditer(rb"-?\d+(\.\d+)?", bytes(data)))
                if numbers:
                    found = chance.choice(numbers)
                    data[found.start() : found.end()] = chance.choice(_NUMBERS)
    return bytes(data)


def _tree(value: Any, chance: random.Random) -> Any:
    """A JSON value with one to three parts removed, doubled or exchanged."""
    value = copy.deepcopy(value)
    for _ in range(chance.randint(1, 3)):
        places = list(_places(value))
        if not places:
            return value
        parent, key = chance.choice(places)
        match chance.randrange(4):
            case 0:
                del parent[key]
            case 1:
                other, place = chance.choice(places)
                parent[key] = copy.deepcopy(other[place])
            case 2:
                parent[key] = [parent[key]]
            case _:
                parent[key] = copy.deepcopy(chance.choice(_VALUES))
    return value


def _places(value: Any) -> Any:
    """Every (container, key) of a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for key in keys:
        yield value, key
        yield from _places(value[key])
