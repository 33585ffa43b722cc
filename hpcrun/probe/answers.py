"""The answer of ``probe.sh``, taken apart: lines and an exit code by the question's name.

What a program said stands behind a blank, so none can pass for an answer that it did not give.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

MOST = 524_288
"""Bytes that one program may say; ``probe.sh`` cuts it off there. Six hundred partitions have as many."""

MISSING = 127
"""What a shell says of a program that is not there."""

LATE = (124, 137)
"""What timeout(1) says of a program that it ended, or had to kill."""


@cache
def script(name: str, *, alone: bool = False) -> str:
    """POSIX shell source of this folder: ``probe`` holds the questions. With ``expand`` at hand, unless it is
    to be ``alone``."""
    folder = Path(__file__).parent
    names = [name] if alone else ["expand", name]
    return "".join((folder / f"{each}.sh").read_text(encoding="utf-8") for each in names)


@dataclass(frozen=True)
class Answer:
    """What one program said, stdout and stderr together. ``rc`` is None where nobody knows."""

    lines: tuple[str, ...] = ()
    rc: int | None = None

    @property
    def ok(self) -> bool:
        return self.rc == 0

    @property
    def missing(self) -> bool:
        """Whether there is no such program, or it was not asked at all."""
        return self.rc in (MISSING, None)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def first(self) -> str:
        """The first line that says anything."""
        return next((line.strip() for line in self.lines if line.strip()), "")

    @property
    def why(self) -> str:
        """In what way it failed: the program's last line, or its exit code."""
        if self.rc in LATE:
            return "it did not answer in time"
        said = [line.strip() for line in self.lines if line.strip()]
        return said[-1] if said else f"it ended with exit code {self.rc}"

    @property
    def values(self) -> dict[str, str]:
        """The ``name=value`` lines of what the script itself has looked up."""
        pairs = (line.partition("=") for line in self.lines)
        return {name: value for name, equals, value in pairs if equals}


NOTHING = Answer()


def read_answers(text: str) -> dict[str, list[Answer]]:
    """All answers by name, several where a question was put several times. What is not an answer is left."""
    found: dict[str, list[Answer]] = {}
    name, lines = "", list[str]()
    for line in text.split("\n"):
        if line.startswith("= "):
            name, lines = line[2:].strip(), []
        elif line.startswith(". ") and name:
            rc = int(line[2:]) if line[2:].isascii() and line[2:].isdigit() and len(line) < 8 else None
            if len("\n".join(lines).encode("utf-8", "replace")) >= MOST - 8:
                lines.pop()  # it was cut off somewhere in this one
            found.setdefault(name, []).append(Answer(tuple(lines), rc))
            name = ""
        elif line.startswith(" ") and name:
            lines.append(line[1:].rstrip("\r"))
    return found
