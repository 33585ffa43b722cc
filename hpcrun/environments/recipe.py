"""How an environment is made, as pure text: what it is made of, and the shell source that makes it.

An environment is made once for each content. Its folder is ``ROOT/environments/KIND-KEY-MACHINE``; the key
is that of the recipe, the machine (``uname -m``) that of the host on which it was made, found out there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hpcrun.errors import ConfigError, Problem
from hpcrun.quoting import ShellText

Read = Callable[[str], bytes]
"""Gives what a file holds: by its path in the source directory, or an absolute one. Raises OSError."""


def reader(read: Read, path: str) -> Read:
    """``read``, whose trouble is a problem of the key ``path``: ConfigError."""

    def get(name: str) -> bytes:
        try:
            return read(name)
        except OSError as exc:
            raise ConfigError([Problem(f"cannot read {name}: {exc.strerror or exc}", path=path)]) from exc

    return get


@dataclass(frozen=True)
class Recipe:
    """What makes one environment.

    ``files`` (relative name to content) lie in the working folder of ``build``, which is bash source, run
    under ``set -euo pipefail``: it makes what is wanted in the folder ``$HPCRUN_ENV`` (as ``prefix``, or
    ``image.sif``), which is there, and keeps its name for good, so that paths below it may be written into
    what is made. What it prints is the log, and a line in ``$HPCRUN_ENV/tool.txt`` says what made it. It
    fails by a non-zero exit code. ``record`` prints what was resolved, in a form that the same kind can make
    the same from (``conda list --explicit``, ``pip freeze``, a digest); it runs after ``build``, in the same
    shell. ``title`` is what people call it.

    Runs find the folder as ``$HPCRUN_ENVIRONMENT``, in ``activate`` and in every process.

    ``aids`` are further files of the working folder, and ``variables`` what ``build`` finds exported: how it
    is made on this site by this hpcrun (a program's path, a script), no part of what is made, nor of the key.
    """

    kind: str
    title: str
    build: ShellText
    record: ShellText
    files: Mapping[str, bytes] = field(default_factory=dict)
    aids: Mapping[str, bytes] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``KIND-KEY``."""
        return f"{self.kind}-{self.key}"

    @property
    def key(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of everything that decides what is made."""
        digest = hashlib.sha256()
        parts = [("kind", self.kind.encode()), ("build", str(self.build).encode())]
        for name, content in [*parts, *((f"file {n}", c) for n, c in sorted(self.files.items()))]:
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()[:16]
