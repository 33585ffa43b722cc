"""What a function returned or raised, read from the file that its process wrote."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcrun.errors import RunError

_HEAD = 1 << 20
_NAME = re.compile(r"rank_([0-9]{1,9})\.pkl")


@dataclass(frozen=True)
class Outcome:
    """How the call of one process ended. ``kind``: result, error (the function's own), or trouble (ours).

    ``type`` is the class of what was returned or raised; ``data`` is its pickle, empty where there is none.
    """

    rank: int
    kind: str
    python: str
    type: str
    message: str
    traceback: str
    data: bytes

    def load(self) -> Any:
        """The value, or the exception. It is unpickled, so whoever could write to the run's folder can have
        anything done here: only the run's owner asks for it, and only in ``result()``.

        Raises RunError where it cannot be had here.
        """
        from submitit.core.utils import pickle_load

        with tempfile.TemporaryDirectory(prefix="hpcrun-") as folder:
            place = Path(folder) / "result.pkl"
            place.write_bytes(self.data)
            try:
                return pickle_load(place)
            except Exception as error:
                raise RunError(
                    f"what rank {self.rank} gave back, a {self.type}, cannot be unpickled here: "
                    f"{type(error).__name__}: {error}",
                    hint=f"Python {self.python} pickled it, with the modules of the run's environment.",
                ) from error


def read_outcomes(folder: Path) -> Iterator[Outcome]:
    """How the call of each process ended, by rank; nothing is unpickled.

    Raises RunError for a damaged file.
    """
    try:
        names = sorted((int(m[1]), p) for p in folder.iterdir() if (m := _NAME.fullmatch(p.name)))
    except FileNotFoundError:
        return
    for rank, path in names:
        yield _read(rank, path)


def _read(rank: int, path: Path) -> Outcome:
    try:
        with open(path, "rb", opener=_carefully) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError("it is no file")
            head = json.loads(file.readline(_HEAD))
            data = file.read()
        if head["bytes"] != len(data) or head["digest"] != hashlib.sha256(data).hexdigest():
            raise ValueError("it is not whole")
        text = {key: str(head.get(key, "")) for key in ("kind", "python", "type", "message", "traceback")}
        return Outcome(rank, data=data, **text)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"the result {path} cannot be read: {error}") from error


def _carefully(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
