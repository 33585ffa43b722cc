"""What the tests of the documentation share: its fenced blocks, and what of an answer may differ.

A ``console`` block is typed: what follows ``$ `` is a command, what stands below it its answer. ``…`` in an
answer stands for anything within a line, and on a line of its own for any lines. A block whose first line
names a file (``yaml run.yaml``) is that file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

# What differs from one time to the next. Both the page and the answer are seen through these.
_VARIES = (
    (r"\d{8}-\d{6}_[a-z2-7]{8}", "STAMP"),
    (r"\b[a-z2-7]{8}\b", "SHORT"),
    (r"\b[0-9a-f]{12}\b", "HASH"),
    (r"\d{4}-\d\d-\d\d", "DATE"),
    (r"\d\d:\d\d:\d\d", "TIME"),
    (r"(?m)^\[TIME\] \w+\n", ""),  # a quick run may not be seen in each of its states
    (r"(?m)^(states)? +DATE +TIME +\w+\n", ""),
    (r"(?m)^# .*site_configs/", "# site_configs/"),
    (r"\b\d+[smhd]( \d+[smhd])?\b", "SPAN"),
    (r"job( +)\d+", r"job\1N"),
    (r"(,|N) on \S+", r"\1 on HOST"),
    (r"\d+(\.\d)? (B|KiB)\b", "SIZE"),
    (r"\((Queued|Starting|Running)\)", "(Queued)"),
    (r" +", " "),
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what follows that on its first line, its text, and where it is."""

    language: str
    name: str
    text: str
    where: str

    def commands(self) -> Iterator[tuple[str, str]]:
        """Each command of a console block, with the answer that stands below it."""
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, _, answer = part.partition("\n")
            yield command, answer


def blocks(page: Path, language: str = "") -> list[Block]:
    """The fenced blocks of a page, in their order; of one language alone, if it is named."""
    text, found = page.read_text(), []
    for match in re.finditer(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        where = f"{page.name}:{text.count(chr(10), 0, match.start()) + 1}"
        found.append(Block(match[1], match[2] or "", match[3], where))
    return [block for block in found if language in ("", block.language)]


def seen(text: str) -> str:
    """A text without what may differ from one time to the next."""
    for pattern, name in _VARIES:
        text = re.sub(pattern, name, text)
    return text.strip()


def answers_to(shown: str, real: str) -> bool:
    """Whether a real answer is the one that is shown."""
    lines = (r"(?s:.*)" if line == "…" else _pattern(line) for line in seen(shown).split("\n"))
    pattern = "\n".join(lines).replace("(?s:.*)\n", r"(?s:.*\n)?")
    return re.fullmatch(pattern, seen(real)) is not None


def _pattern(line: str) -> str:
    return re.escape(line).replace("…", ".*?")
