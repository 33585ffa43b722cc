"""Sobol's sequence, scrambled: points that fill a space more evenly than points drawn at random.

The n-th point is had without those before it, so that what a trial gets depends on no other. The direction
numbers are Joe and Kuo's (new-joe-kuo-6, SIAM J. Sci. Comput. 30, 2008); the scrambling is Owen's, by
hashes (Burley, JCGT 9, 2020). Any 2**k points from a multiple of 2**k on have one in each of 2**k equal
intervals of each axis.
"""

from __future__ import annotations

import hashlib
from functools import cache

BITS = 32

_TABLE = """
3:1 7:1,3 11:1,3,1 13:1,1,1 19:1,1,3,3 25:1,3,5,13 37:1,1,5,5,17 41:1,1,5,5,5 47:1,1,7,11,19
55:1,1,5,1,1 59:1,1,1,3,11 61:1,3,5,5,31 67:1,3,3,9,7,49 91:1,1,1,15,21,21 97:1,3,1,13,27,49
103:1,1,1,15,7,5 109:1,3,1,15,13,25 115:1,1,5,5,19,61 131:1,3,7,11,23,15,103 137:1,3,7,13,13,15,69
143:1,1,3,13,7,35,63 145:1,3,5,9,1,25,53 157:1,3,1,13,9,35,107 167:1,3,1,5,27,61,31
171:1,1,5,11,19,41,61 185:1,3,5,3,3,13,69 191:1,1,7,13,1,19,1 193:1,3,7,5,13,19,59
203:1,1,3,9,25,29,41 211:1,3,5,13,23,1,55 213:1,3,7,3,13,59,17 229:1,3,1,3,5,53,69
239:1,1,5,5,23,33,13 241:1,1,7,7,1,61,123 247:1,1,7,9,13,61,49 253:1,3,3,5,3,55,33
285:1,3,1,15,31,13,49,245 299:1,3,5,15,31,59,63,97 301:1,3,1,11,11,11,77,249 333:1,3,1,11,27,43,71,9
351:1,1,7,15,21,11,81,45 355:1,3,7,3,25,31,65,79 357:1,3,1,1,19,11,3,205 361:1,1,5,9,19,21,29,157
369:1,3,7,11,1,33,89,185 391:1,3,3,3,15,9,79,71 397:1,3,7,11,15,39,119,27 425:1,1,3,1,11,31,97,225
451:1,1,1,3,23,43,57,177 463:1,3,7,7,17,17,37,71 487:1,3,1,5,27,63,123,213 501:1,1,3,5,11,43,53,133
529:1,3,5,5,29,17,47,173,479 539:1,3,3,11,3,1,109,9,69 545:1,1,1,5,17,39,23,5,343
557:1,3,1,5,25,15,31,103,499 563:1,1,1,11,11,17,63,105,183 601:1,1,5,11,9,29,97,231,363
607:1,1,5,15,19,45,41,7,383 617:1,3,7,7,31,19,83,137,221 623:1,1,1,3,23,15,111,223,83
631:1,1,5,13,31,15,55,25,161 637:1,1,3,13,25,47,39,87,257
"""
"""For each dimension but the first: the polynomial's bits, and the first direction numbers."""

_MULTIPLIERS = (0x6C50B47C, 0xB82F1E52, 0xC7AFE638, 0x8D22F6E6)
_SIZE = 1 << BITS
_ALL = _SIZE - 1


def coordinate(n: int, dimension: int, seed: str) -> float:
    """One coordinate (between 0 and 1, neither of them) of the n-th point. The seed scrambles."""
    gray, x, bit = n ^ (n >> 1), 0, 0
    columns = _directions(dimension)
    while gray:
        if gray & 1:
            x ^= columns[bit % BITS]
        gray >>= 1
        bit += 1
    return (_scrambled(x, _hash(f"{seed} sobol {dimension}")) + 0.5) / _SIZE


def dimensions() -> int:
    """How many there are."""
    return len(_TABLE.split()) + 1


@cache
def _directions(dimension: int) -> tuple[int, ...]:
    if dimension == 0:
        return tuple(1 << (BITS - 1 - bit) for bit in range(BITS))
    polynomial, _, first = _TABLE.split()[dimension - 1].partition(":")
    taps, numbers = int(polynomial), [int(each) for each in first.split(",")]
    degree = len(numbers)
    for k in range(degree, BITS):
        number = numbers[k - degree] ^ (numbers[k - degree] << degree)
        for step in range(1, degree):
            if taps >> (degree - step) & 1:
                number ^= numbers[k - step] << step
        numbers.append(number)
    return tuple(number << (BITS - 1 - bit) for bit, number in enumerate(numbers))


def _scrambled(x: int, seed: int) -> int:
    """Each bit is turned over or not, by a hash of the bits above it."""
    x = (_reversed(x) + seed) & _ALL
    for multiplier in _MULTIPLIERS:
        x ^= x * multiplier & _ALL
    return _reversed(x)


def _reversed(x: int) -> int:
    return int(f"{x:0{BITS}b}"[::-1], 2)


@cache
def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4], "big")
