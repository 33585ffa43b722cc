"""What a run's job writes on another machine, kept here as it grows: the logs and status.json."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from hpcrun.engine.frames import Anew, End, Frame, Piece, Status, key_of, log_name
from hpcrun.history.paths import RunPaths


class Gap(Exception):
    """A piece lies behind the end of what is here: it has to be asked for from there on."""


class Mirror:
    """The logs of one run in its folder in the history, under the names that they have there.

    Pieces are written where they belong, so that two who follow one run do no harm. The files are not
    replaced, and whoever reads them from where they left off goes on.
    """

    def __init__(self, home: RunPaths) -> None:
        self._home = home
        self._job_begun = False

    def known(self) -> dict[str, int]:
        """How long each log is here, by its key."""
        found = {}
        with suppress(OSError):
            for path in self._home.user_logs.iterdir():
                key = key_of(path.name)
                if key is not None:
                    found[key] = self._size(path)
        if self._job_begun:  # before, it may be no more than the end of the one there
            found["job"] = self._size(self._path("job"))
        return found

    def take(self, frame: Frame) -> None:
        """Keep what has come. Raises Gap, and OSError where it cannot be written."""
        if isinstance(frame, Status):
            self._put_status(frame.text)
        elif isinstance(frame, Anew):
            self._put(frame.key, 0, b"", anew=True)
        elif isinstance(frame, Piece):
            anew = frame.key == "job" and frame.at == 0 and not self._job_begun
            self._put(frame.key, frame.at, frame.data, anew=anew)
            self._job_begun = self._job_begun or frame.key == "job"
        elif isinstance(frame, End) and any(
            self._size(self._path(key)) < size for key, size in frame.sizes.items()
        ):
            raise Gap

    def _path(self, key: str) -> Path:
        return self._home.folder / log_name(key)

    @staticmethod
    def _size(path: Path) -> int:
        try:
            return path.lstat().st_size
        except OSError:
            return 0

    def _put(self, key: str, at: int, data: bytes, *, anew: bool) -> None:
        fd = os.open(self._path(key), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb", buffering=0) as file:
            if anew:
                file.truncate(0)
            if at > os.fstat(fd).st_size:
                raise Gap
            file.seek(at)
            left = memoryview(data)
            while left:
                left = left[file.write(left) :]

    def _put_status(self, text: str) -> None:
        fd, name = tempfile.mkstemp(prefix=".status.", dir=self._home.folder)
        try:
            with os.fdopen(fd, "w", encoding="utf-8", errors="replace") as file:
                file.write(f"{text}\n")
            Path(name).replace(self._home.status)
        except OSError:
            with suppress(OSError):
                Path(name).unlink()
            raise
