"""The ends of logs as text, whatever they hold."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

TAIL = 256 * 1024
"""Bytes that are read of the end of a log."""

CONTROL = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 127), "\N{REPLACEMENT CHARACTER}")
"""What stands in the place of characters that do something to a terminal."""

_COLOUR = re.compile(r"\x1b\[[0-9;?]{0,40}[A-Za-z]")


def read_tail(path: Path, size: int = TAIL) -> str:
    """The end of a log as text, whatever it holds; empty where there is none. A link or a pipe in its
    place is not opened or waited for."""
    try:
        with open(path, "rb", opener=_carefully) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return ""
            end = file.seek(0, 2)
            file.seek(max(0, end - size))
            data = file.read(size)
    except (OSError, ValueError):
        return ""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    return _COLOUR.sub("", text).translate(CONTROL)


def _carefully(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
