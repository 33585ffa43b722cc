"""What the tests of the documentation share: its fenced blocks, and what of an answer may differ.

A ``console`` block is typed: what follows ``$ `` is a command, what stands below it its answer. ``…`` in an
answer stands for anything within a line, and on a line of its own for any lines. A block whose first line
names a file (``yaml run.yaml``) is that file. ``HPCRUN_UPDATE_DOCS=1`` writes the real answers into the pages
where others stand there.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
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
    (r"\d+(\.\d)? (B|KiB|MiB)\b", "SIZE"),
    (r"(less than )?\d+ %", "SHARE"),
    (r"\((Queued|Starting|Running)\)", "(Queued)"),
    (r"(?m)^ +[~^]+\n", ""),  # Pythons differ in what they underline in a traceback
    (r" +", " "),
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what follows that on its first line, its text, its section, its place."""

    language: str
    name: str
    text: str
    section: str
    page: Path
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
        section = re.findall(r"^## (.*)$", text[: match.start()], re.MULTILINE)[-1:]
        where = f"{page.name}:{text.count(chr(10), 0, match.start()) + 1}"
        found.append(Block(match[1], match[2] or "", match[3], "".join(section), page, where))
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


Typed = tuple[int, str]
"""The exit code of a command, and what it printed, stdout and stderr together."""

SHOWN_HOME = "/home/me"
UPDATE = os.environ.get("HPCRUN_UPDATE_DOCS") == "1"


def play(
    page: Iterable[Block], home: str, type_in: Callable[[str], Typed], write: Callable[[str, str], None]
) -> None:
    """Do what a page says: write its files, run its Python, type its commands and compare the answers.

    ``home`` is the real folder that the page calls /home/me.
    """
    for block in page:
        if block.language == "console":
            session = ""
            for command, answer in block.commands():
                real = type_in(command)[1].replace(home, SHOWN_HOME)
                fits = answers_to(answer, real)
                assert fits or UPDATE, f"{block.where}: $ {command}\n{real}"
                session += f"$ {command}\n{answer if fits else real.replace(socket.gethostname(), 'laptop')}"
            if UPDATE:
                block.page.write_text(block.page.read_text().replace(block.text, session))
        elif block.name:
            write(block.name, block.text)
        elif block.language == "python":
            code, real = type_in(f"python - <<'END'\n{block.text}END")
            assert code == 0, f"{block.where}:\n{real}"


def type_here(folder: Path) -> Callable[[str], Typed]:
    """Types commands into a bash in ``folder``, with the tests' own hpcrun and Python first on its PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def type_in(command: str) -> Typed:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout

    return type_in


def under_git(folder: Path) -> None:
    """Make a folder a git repository, with all that is in it committed."""
    who = ["-c", "user.name=n", "-c", "user.email=e@x"]
    for args in (["init", "-q", "-b", "main"], ["add", "-A"], [*who, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *args], cwd=folder, check=True)


def write_here(folder: Path) -> Callable[[str, str], None]:
    """Writes files below ``folder``, or below the home folder."""

    def write(name: str, text: str) -> None:
        path = folder / Path(name).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return write
