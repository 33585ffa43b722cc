"""How much of a square its circle covers, by throwing darts at it."""

from __future__ import annotations

import random


def inside(throws: int, seed: int) -> int:
    """How many of so many throws, by a die of this seed, hit the circle."""
    die = random.Random(seed)
    hits = sum(die.random() ** 2 + die.random() ** 2 < 1 for _ in range(throws))
    print(f"seed {seed}: {hits} of {throws}")
    return hits
