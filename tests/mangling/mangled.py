"""Mangles bytes as a disk, a network or an enemy would."""

from __future__ import annotations

import random
from collections.abc import Sequence

_NUMBERS = [
    n.to_bytes(size, order, signed=n < 0)  # lengths and counts at their ends
    for size in (1, 2, 4, 8)
    for n in (0, 1, 255, -1, (1 << 8 * size - 1) - 1, -(1 << 8 * size - 1))
    for order in ("little", "big")
    if -(1 << 8 * size - 1) <= n < 1 << 8 * size
]


def mangled(seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """One of the seeds with up to four changes: a bit flipped, bytes written over, put in, cut out
    or doubled, the end cut off, or the rest taken from another seed."""
    made = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(made) + 1)
        match rng.randrange(8):
            case 0 | 1 if at < len(made):
                made[at] ^= 1 << rng.randrange(8)
            case 2:
                number = rng.choice(_NUMBERS)
                made[at : at + len(number)] = number
            case 3:
                made[at:at] = rng.randbytes(rng.choice((1, 2, 8)))
            case 4:
                del made[at : at + rng.choice((1, 2, 8, 100))]
            case 5:
                made[at:at] = made[at : at + rng.choice((1, 8, 64))]
            case 6:
                del made[at:]
            case _:
                other = rng.choice(seeds)
                made[at:] = other[min(at, len(other)) :]
    return bytes(made)
