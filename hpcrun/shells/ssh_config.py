"""ssh_config for those who are not the ssh program: the files as one text, with what Include names in its
place, and the few settings that fabric leaves to its caller."""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from hpcrun.errors import UnreachableError

_ALONE = ("all", "canonical", "final")
_WITH_VALUE = ("host", "originalhost", "user", "localuser")
_NOBODY = "Host !*"
_DEEPEST = 16
"""As many Includes may be in one another as ssh allows."""


def whole_text(given: str | None) -> str:
    """The user's configuration and the system's, or instead of both the file that is given."""
    if given is not None:
        path = Path(given).expanduser()
        if not path.is_file():
            raise UnreachableError(f"there is no ssh_config {path}", hint="See connection.ssh_config.")
        return _text(path, Path("~/.ssh").expanduser())
    user, system = Path("~/.ssh/config").expanduser(), Path("/etc/ssh/ssh_config")
    return "".join(_text(path, path.parent) for path in (user, system) if path.is_file())


def _text(path: Path, folder: Path) -> str:
    # What follows begins outside of any section, as in a file of its own.
    return "".join(f"{line}\n" for line in (*_lines(path, folder), "Host *"))


def _lines(path: Path, folder: Path, depth: int = 0, section: str = "") -> Iterator[str]:
    """The lines of a file. Where it is included within a section, its own sections, which would have to be
    in both, are left out."""
    if depth > _DEEPEST:
        raise UnreachableError(f"{path}: more than {_DEEPEST} Includes within one another")
    try:
        text = path.read_text(errors="surrogateescape")
    except OSError as error:
        raise UnreachableError(f"cannot read {path}: {error.strerror}") from error
    within, left_out = section, False
    for line in text.splitlines():
        word, value = _setting(line)
        if word in ("host", "match"):
            left_out = bool(within)
            line = line if word == "host" else _match(value)
            section = section if left_out else line
        if left_out or not word:
            continue
        if word != "include":
            yield line
            continue
        for file in _included(value, folder):
            yield from _lines(file, folder, depth + 1, section)
            yield section or "Host *"


def _match(conditions: str) -> str:
    """A Match line as paramiko takes it. A condition that it does not know would be met by every host: here
    it is met by none. Neither is ``exec``: paramiko lets the command read from our terminal, without end."""
    words, known = [], True
    todo = shlex.split(conditions)
    while todo:
        words.append(todo.pop(0).lower())
        kind = words[-1].removeprefix("!")
        known = known and kind in (*_ALONE, *_WITH_VALUE)
        if kind not in _ALONE and todo:
            words.append(todo.pop(0))
    return f"Match {shlex.join(words)}" if known else _NOBODY


def _setting(line: str) -> tuple[str, str]:
    match = re.match(r"\s*(\w+)(?:\s*=\s*|\s+)(.+?)\s*$", line)
    return (match[1].lower(), match[2]) if match else ("", "")


def _included(value: str, folder: Path) -> Iterator[Path]:
    for pattern in shlex.split(value):
        full = os.path.join(folder, os.path.expanduser(pattern))  # noqa: PTH111, PTH118 - a pattern
        found = sorted(glob.glob(full))  # noqa: PTH207
        yield from (Path(name) for name in found if Path(name).is_file())


def paths(settings: Mapping[str, object], key: str, default: str) -> list[Path]:
    """The files that a setting names; ``none`` is none."""
    value = str(settings.get(key) or default)
    if value.lower() == "none":
        return []
    home = str(Path("~").expanduser())
    # One quoted name comes without its quotes, so that it may hold blanks.
    words = [value] if Path(value).expanduser().exists() else shlex.split(value)
    return [Path(word.replace("%d", home)).expanduser() for word in words]
