"""Time and memory as people write them, and in Slurm's spelling.

Durations: ``90m``, ``2h30m``, ``2d``, ``90s``, and Slurm's own ``MM``, ``MM:SS``, ``HH:MM:SS``,
``D-HH``, ``D-HH:MM``, ``D-HH:MM:SS`` (sbatch(1), --time). Memory: ``120G``, ``1.5T``, ``500 MiB``; a
bare number means MiB, as for sbatch (--mem). Both refuse zero, negatives and "unlimited".
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

_LETTERS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_LONG = {
    "weeks": "w", "week": "w", "days": "d", "day": "d", "hours": "h", "hour": "h", "hrs": "h", "hr": "h",
    "minutes": "m", "minute": "m", "mins": "m", "min": "m", "seconds": "s", "second": "s", "secs": "s",
    "sec": "s",
}  # fmt: skip
# No amount that means anything has more digits, and int() refuses thousands of them in words of its own.
_NUMBER = r"(\d{1,18}(?:\.\d{1,18})?)"
_PART = re.compile(rf"\s*{_NUMBER}\s*([a-z]+)")
_CLOCK = re.compile(r"(?:(\d{1,18})-)?(\d{1,18})(?::(\d{1,18}))?(?::(\d{1,18}))?")
_MEMORY = re.compile(rf"{_NUMBER}\s*(?:([kmgtp])(?:i?b)?)?", re.IGNORECASE)
_MIB = {"k": Fraction(1, 1024)} | {unit: Fraction(1024**power) for power, unit in enumerate("mgtp")}
_MAX_SECONDS = 365 * 86400 * 10
_MAX_MIB = 1024**4

DURATION_HELP = "a time such as 90m, 2h30m, 2d, 1-12:00:00 or 36:00:00 (a bare number is minutes)"
MEMORY_HELP = "an amount of memory such as 120G, 500M or 1.5T (a bare number is MiB)"


class Duration(int):
    """A length of time in whole seconds; prints in Slurm's ``D-HH:MM:SS``."""

    @classmethod
    def parse(cls, value: object) -> Duration:
        """Read a duration; a bare number is minutes, as for sbatch. Raises ValueError."""
        if isinstance(value, Duration):
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError(f"expected {DURATION_HELP}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"expected {DURATION_HELP}")
        text = str(value).strip().lower()
        if text in ("unlimited", "infinite", "-1"):
            raise ValueError("an unlimited time blocks backfill scheduling: write the time the run needs")
        seconds = _clock_seconds(text) if _CLOCK.fullmatch(text) else _letters_seconds(text)
        if seconds <= 0:
            raise ValueError("a time must be longer than zero")
        if seconds > _MAX_SECONDS:
            raise ValueError("a time longer than ten years")
        return cls(math.ceil(seconds))

    @property
    def slurm(self) -> str:
        """Slurm's spelling, exact to the second (Slurm itself rounds up to minutes)."""
        days, rest = divmod(int(self), 86400)
        clock = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
        return f"{days}-{clock}" if days else clock

    def __str__(self) -> str:
        return self.slurm

    def __repr__(self) -> str:
        return f"Duration.parse({self.slurm!r})"


def _clock_seconds(text: str) -> int:
    match = _CLOCK.fullmatch(text)
    assert match is not None
    days, a, b, c = (None if g is None else int(g) for g in match.groups())
    assert a is not None
    if days is not None:  # D-HH[:MM[:SS]]
        hours, minutes, seconds = a, b or 0, c or 0
    elif c is not None:  # HH:MM:SS
        hours, minutes, seconds = a, b or 0, c
    elif b is not None:  # MM:SS, Slurm's reading and no other
        hours, minutes, seconds = 0, a, b
    else:
        hours, minutes, seconds = 0, a, 0
    # Only the first number may run over its clock: 90:00 is an hour and a half, 1:90 is a slip.
    if seconds > 59 or (minutes > 59 and (days is not None or c is not None)):
        raise ValueError(f"not a time of day: {text!r}; expected {DURATION_HELP}")
    return (days or 0) * 86400 + hours * 3600 + minutes * 60 + seconds


def _letters_seconds(text: str) -> Fraction:
    # Exact, since 1.1h is 3960 s, and not the 3960.0000000000005 that would be rounded up.
    position, total, seen = 0, Fraction(0), set()
    while position < len(text):
        match = _PART.match(text, position)
        unit = None if match is None else _LONG.get(match.group(2), match.group(2))
        if match is None or unit not in _LETTERS or unit in seen:
            raise ValueError(f"expected {DURATION_HELP}, found {text!r}")
        seen.add(unit)
        total += Fraction(match.group(1)) * _LETTERS[unit]
        position = match.end()
        if not text[position:].strip():
            break
    if not seen:
        raise ValueError(f"expected {DURATION_HELP}, found {text!r}")
    return total


class Memory(int):
    """An amount of memory in whole MiB (rounded up); prints as sbatch's --mem takes it."""

    @classmethod
    def parse(cls, value: object) -> Memory:
        """Read an amount; units are powers of 1024, as for sbatch. Raises ValueError."""
        if isinstance(value, Memory):
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError(f"expected {MEMORY_HELP}")
        match = _MEMORY.fullmatch(str(value).strip())
        if match is None:
            raise ValueError(f"expected {MEMORY_HELP}, found {value!r}")
        mib = math.ceil(Fraction(match.group(1)) * _MIB[(match.group(2) or "m").lower()])
        if mib <= 0:
            raise ValueError("an amount of memory must be more than zero (0 would ask for a whole node)")
        if mib > _MAX_MIB:
            raise ValueError("an amount of memory over an exbibyte")
        return cls(mib)

    @property
    def slurm(self) -> str:
        for unit, size in (("T", 1024**2), ("G", 1024)):
            if int(self) % size == 0:
                return f"{int(self) // size}{unit}"
        return f"{int(self)}M"

    def __str__(self) -> str:
        return self.slurm

    def __repr__(self) -> str:
        return f"Memory.parse({self.slurm!r})"


def human_bytes(count: int) -> str:
    """``1536`` -> ``1.5 KiB``; for people, never parsed back."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def human_seconds(seconds: float) -> str:
    """``3725`` -> ``1h 2m``; two units at most."""
    left = round(seconds)
    if left < 60:
        return f"{left}s"
    parts = []
    for letter, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if left >= size:
            parts.append(f"{left // size}{letter}")
            left %= size
    return " ".join(parts[:2])
