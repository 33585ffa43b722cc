"""Patterns for the files of a run: ``outputs/*.pt``, ``**/checkpoint-*``, ``*.log``, ``outputs/images/``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns fits a name such as ``outputs/model.pt``.

    ``*`` and ``?`` stop at a slash, ``**`` does not. A pattern without a slash fits the last part of a name,
    wherever it is; one that ends with a slash fits all that is below. ``[abc]`` is one of these characters,
    ``[!abc]`` any other, ``[a-c]`` one of a range; a slash is none of them.
    """
    return any(_regex(pattern).fullmatch(name) for pattern in patterns)


def escape(name: str) -> str:
    """The pattern that fits this very name."""
    return re.sub(r"[*?\[]", lambda found: f"[{found[0]}]", name)


@lru_cache(maxsize=256)
def _regex(pattern: str) -> re.Pattern[str]:
    below = pattern.endswith("/")
    body = pattern.strip("/")
    anywhere = "/" not in body
    text = "".join(_piece(part) for part in re.findall(r"\*\*/|\*\*|\*|\?|\[[^]/]+\]|.", body, re.DOTALL))
    if anywhere:
        text = f"(?:.*/)?{text}"
    return re.compile(f"{text}/.*" if below else text, re.DOTALL)


def _piece(part: str) -> str:
    if part == "**/":
        return "(?:.*/)?"
    if part == "**":
        return ".*"
    if part == "*":
        return "[^/]*"
    if part == "?":
        return "[^/]"
    if part.startswith("[") and len(part) > 2:
        return _class(part[1:-1])
    return re.escape(part)


def _class(inside: str) -> str:
    """One of these characters, or with a ``!`` before them any other; never a slash."""
    other = inside.startswith("!") and len(inside) > 1
    pieces = []
    for low, high, one in re.findall(r"(.)-(.)|(.)", inside[other:], re.DOTALL):
        if one or low <= high:
            pieces.append(re.escape(one) if one else f"{re.escape(low)}-{re.escape(high)}")
    if other:
        return f"(?!/)[^{''.join(pieces)}]" if pieces else "[^/]"
    return f"(?!/)[{''.join(pieces)}]" if pieces else "(?!)"
