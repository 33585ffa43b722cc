"""Files that are whole or not there, folders for their owner only, locks that die with their holder."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hpcrun.errors import HistoryError

LOCK_SECONDS = 30.0
"""How long to wait for a lock before giving up."""


def make_folder(path: Path) -> None:
    """Make a folder with mode 0700, if it is not there. Raises HistoryError."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise HistoryError(f"{path} is in the way: it is not a folder") from None
    except OSError as error:
        raise HistoryError(f"cannot make the folder {path}: {error.strerror}") from error


def touch(path: Path) -> None:
    """Make an empty file of mode 0600, if none is there. Raises HistoryError."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    except OSError as error:
        raise HistoryError(f"cannot make {path}: {error.strerror}") from error


def is_lost(path: Path) -> bool:
    """Whether a file is not there, or has nothing in it."""
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder, links not followed."""
    total = 0
    for current, folders, files in os.walk(folder, followlinks=False):
        for name in (*folders, *files):
            with suppress(OSError):
                total += (Path(current) / name).lstat().st_size
    return total


def remove_tree(folder: Path) -> None:
    """Delete a folder and all in it, folders that were made read-only too; links go, not what they lead to.

    Raises HistoryError.
    """
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise HistoryError(f"{folder} is not a folder, and was not deleted")
        folder.chmod(0o700)
        for current, folders, _ in os.walk(folder, followlinks=False):
            for name in folders:
                path = Path(current) / name
                if not path.is_symlink():
                    path.chmod(0o700)
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass  # another was at it as well
    except OSError as error:
        raise HistoryError(f"cannot delete {error.filename or folder}: {error.strerror}") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Put a file of mode 0600 in place: the old content or the new, never between, and on the disk.

    The temporary file has a fixed name, so that a killed writer leaves one at most and the next writer
    takes it away: two writers of one file must hold a lock. Raises HistoryError.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            temporary.replace(path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise HistoryError(f"cannot write {path}: {error.strerror}") from error


def sync_folder(path: Path) -> None:
    """Bring the folder's list of names to the disk: without it a power cut can undo the rename."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, *, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold an exclusive flock on a file of mode 0600 that is made if need be and never taken away.

    The kernel lets go of it when the holder dies, however it dies. It is not reentrant. Raises
    HistoryError when another still holds it after ``seconds`` (0: try once), or when it cannot be had.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise HistoryError(f"cannot open the lock {path}: {error.strerror}") from error
    try:
        _take(descriptor, path, seconds)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path, seconds: float) -> None:
    # Tried again and again rather than waited for: a holder that is stopped or hangs on a dead file
    # server would otherwise hold up every other hpcrun for good.
    deadline = time.monotonic() + seconds
    pause = 0.001
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise HistoryError(
                    f"{path} is held by another process",
                    hint=f"see who: fuser -v {path}",
                ) from None
        except OSError as error:
            raise HistoryError(f"cannot lock {path}: {error.strerror}") from error
        time.sleep(pause)
        pause = min(pause * 2, 0.02)
