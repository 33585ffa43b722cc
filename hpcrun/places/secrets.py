"""The values of a run's secrets: read when it is submitted, kept in one file of its folder until its end.

They go into no record, script, log or command line. What is recorded is where each one was read from.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hpcrun.errors import ConfigError, Problem
from hpcrun.quoting import Secret, ShellText, export

if TYPE_CHECKING:
    from hpcrun.models.run import ScriptRunConfig

_LARGEST = 65536
"""Bytes of a secret: the kernel allows 128 KiB for one variable."""


def references(config: ScriptRunConfig) -> dict[str, str]:
    """Where each value is read from, as a record may have it."""
    return {name: str(place) for name, place in config.secrets.items()}


def sources(config: ScriptRunConfig) -> list[str]:
    """The submitter's own variables that hold secrets, and are not to be handed on to Slurm with the rest."""
    return sorted({place[4:] for place in references(config).values() if place.startswith("env:")})


def resolve(
    places: Mapping[str, str | Secret], source: Path | None = None, *, where: str = "secrets"
) -> dict[str, Secret]:
    """The values, by variable. A file in ``source``, the folder that is snapshotted, is refused.

    Raises ConfigError with all that cannot be had; ``where`` is the key that has the places.
    """
    values: dict[str, Secret] = {}
    problems: list[Problem] = []
    for name, place in places.items():
        try:
            values[name] = place if isinstance(place, Secret) else _read(place, source)
            if "\0" in values[name].reveal():
                raise _Missing("its value holds a NUL character, which no variable can")
        except _Missing as missing:
            problems.append(Problem(str(missing), path=f"{where}.{name}", hint=missing.hint))
    if problems:
        raise ConfigError(problems)
    return values


class _Missing(Exception):
    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def _read(place: str, source: Path | None) -> Secret:
    kind, _, name = place.partition(":")
    if kind == "env":
        value = os.environ.get(name, "")
        if not value:
            raise _Missing(f"the variable {name} is not set here, or is empty", f"first: export {name}=…")
        return Secret(value)
    if kind == "file":
        return _from_file(Path(name).expanduser(), source)
    raise _Missing(
        "its value was given in Python and kept nowhere", "say where it is: env:VARIABLE or file:PATH"
    )


def _from_file(path: Path, source: Path | None) -> Secret:
    if source is not None and source.resolve() in path.resolve().parents:
        raise _Missing(
            f"{path} is in the source directory, and would be in its snapshot", "keep it elsewhere"
        )
    try:
        with open(path, encoding="utf-8", opener=_without_waiting) as file:
            seen = os.fstat(file.fileno())
            if not stat.S_ISREG(seen.st_mode):
                raise _Missing(f"{path} is not a file")
            if seen.st_mode & 0o077:
                raise _Missing(f"others may read {path}", f"chmod go= {path}")
            value = file.read(_LARGEST + 1).removesuffix("\n")
    except OSError as error:
        raise _Missing(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise _Missing(f"{path} is not UTF-8 text") from None
    if not value or len(value) > _LARGEST:
        raise _Missing(f"{path} is {'too large for a variable' if value else 'empty'}")
    return Secret(value)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def text_of(values: Mapping[str, Secret]) -> str:
    """What job.sh reads."""
    return str(ShellText.join("", [ShellText("{}\n", export(n, v.reveal())) for n, v in values.items()]))


def seen_in(values: Mapping[str, Secret], text: str | None) -> list[str]:
    """The variables whose values stand in a text, so that one can be warned."""
    return [name for name, value in values.items() if text and value.reveal() in text]
