"""Files for their owner alone, whole or not at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def private() -> Iterator[None]:
    """What is made in here, by git too, is for its owner alone, whatever the caller's umask."""
    old = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(old)


def write(path: Path, text: str) -> None:
    """Put a file of mode 0600 in place, in one step."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_bytes(path: Path, data: bytes) -> None:
    """The same, with bytes."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    with open(temporary, "wb", opener=private_file) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def append(path: Path, data: bytes) -> None:
    """Add to a file, which is for its owner alone."""
    with open(path, "ab", opener=private_file) as file:
        file.write(data)


def private_file(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
