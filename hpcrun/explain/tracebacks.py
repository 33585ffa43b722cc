"""Python's tracebacks, read from a log."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from hpcrun.explain.facts import Facts, cut

_HEAD = "Traceback (most recent call last):"
_FRAME = re.compile(r'[\s|]*File "([^"]{1,4096})", line (\d{1,9})(?:, in (.{1,500}))?\s*\Z')
_ERROR = re.compile(r"([A-Za-z_][A-Za-z0-9_.]{0,200})(?:: ?(.*))?\Z")
_LIBRARY = ("/site-packages/", "/dist-packages/")


@dataclass(frozen=True)
class Frame:
    path: str
    line: int
    text: str = ""


@dataclass(frozen=True)
class Traceback:
    """The last exception of a log. ``kind`` is its class with its module, as Python prints it."""

    kind: str
    message: str
    frames: tuple[Frame, ...] = ()

    @property
    def name(self) -> str:
        return self.kind.rpartition(".")[2]

    @property
    def line(self) -> str:
        """The line that Python printed last."""
        return cut(f"{self.kind}: {self.message}" if self.message else self.kind)


def read_traceback(text: str) -> Traceback | None:
    """The last traceback that came to its end, or else the last syntax error, which has no head."""
    lines = text.splitlines()
    heads = [index for index, line in enumerate(lines) if _HEAD in line[:200]]
    for index in reversed(heads[-20:]):
        prefix = lines[index].partition(_HEAD)[0]  # torch writes [rank0]: before each line
        found = _body([line.removeprefix(prefix) for line in lines[index + 1 : index + 2000]])
        if found is not None:
            return found
    return _syntax_error(lines)


def quoted(text: str, most: int = 12) -> list[str]:
    """The lines of the last traceback that came to its end, as they were printed; of a long one its end."""
    lines = text.splitlines()
    heads = [index for index, line in enumerate(lines) if _HEAD in line[:200]]
    for index in reversed(heads[-20:]):
        prefix = lines[index].partition(_HEAD)[0]
        body = [line.removeprefix(prefix) for line in lines[index + 1 : index + 2000]]
        last = next((at for at, line in enumerate(body) if line.strip() and line[:1] not in " \t|"), None)
        if last is None or _body(body[: last + 1]) is None:
            continue
        found = [cut(line) for line in body[: last + 1] if line.strip()]
        return [_HEAD, *(found if len(found) < most else ["  …", *found[2 - most :]])]
    return []


def _body(lines: list[str]) -> Traceback | None:
    frames: list[Frame] = []
    for line in lines:
        match = _FRAME.match(line)
        if match is not None:
            frames.append(Frame(match.group(1), int(match.group(2))))
        elif line[:1] in (" ", "\t", "|"):
            if frames and not frames[-1].text:
                frames[-1] = Frame(frames[-1].path, frames[-1].line, line.strip(" \t|"))
        elif line.strip():
            error = _ERROR.match(line.strip())
            if error is None:
                return None
            return Traceback(error.group(1), (error.group(2) or "").strip(), tuple(frames))
    return None


def _syntax_error(lines: list[str]) -> Traceback | None:
    for index in range(len(lines) - 1, 0, -1):
        if re.match(r"(SyntaxError|IndentationError|TabError): ", lines[index]):
            start = max(0, index - 5)
            for place in range(index - 1, start - 1, -1):
                if _FRAME.match(lines[place]):
                    return _body(lines[place : index + 1])
    return None


def within_code(facts: Facts, path: str) -> str | None:
    """A path of a traceback as one within the run's code; None for other people's code."""
    if any(part in path for part in _LIBRARY) or path.startswith("<"):
        return None
    mark = f"/{facts.run_id}/code/"
    if mark in path:
        return posixpath.normpath(path.rpartition(mark)[2])  # job.sh says ./train.py
    return None if path.startswith("/") else posixpath.normpath(path)


def own_frame(facts: Facts, found: Traceback) -> Frame | None:
    """The last frame in the run's own code, with its path in it and its line from the run's own copy."""
    for frame in reversed(found.frames):
        path = within_code(facts, frame.path)
        if path is not None:
            text = facts.source(path, frame.line)
            return Frame(path, frame.line, cut((frame.text if text is None else text).strip()))
    return None


def place(frame: Frame) -> str:
    return f"{frame.path}:{frame.line}"


def shown(facts: Facts, found: Traceback) -> list[str]:
    """Where it happened, and what Python said."""
    lines = []
    own = own_frame(facts, found)
    if own is not None:
        lines.append(f"{place(own)}: {own.text}")
        last = found.frames[-1]
        if within_code(facts, last.path) is None and not last.path.startswith("<"):
            lines.append(f"raised in {cut(place(last))}")
    return [*lines, found.line]
