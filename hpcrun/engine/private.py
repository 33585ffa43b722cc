"""Files for the user alone, in folders of the user's choice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hpcrun.errors import HpcrunError


@contextmanager
def private_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file of mode 0600: once the block is left it is there whole, or as it was before. Raises
    HpcrunError."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise HpcrunError(f"{path} cannot be written: {error.strerror or error}") from error
