"""What hpcrun runs on other machines: POSIX sh, one file a question, its words in its first lines."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent


@cache
def source(*names: str) -> str:
    """The text of the scripts ``names``, one behind the other, bare: all of it travels."""
    text = "\n".join((_FOLDER / f"{name}.sh").read_text(encoding="utf-8") for name in names)
    stripped = (line.strip() for line in text.splitlines())
    return "".join(f"{line}\n" for line in stripped if line and not line.startswith("#"))
