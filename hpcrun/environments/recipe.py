"""How an environment is made, as pure text: what it is made of, and the shell source that makes it.

An environment is made once for each content. Its folder is ``ROOT/environments/KIND-KEY-MACHINE``; the key
is that of the recipe, the machine (``uname -m``) that of the host on which it was made, found out there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from hpcrun.quoting import ShellText


@dataclass(frozen=True)
class Recipe:
    """What makes one environment.

    ``files`` (relative name to content) lie in the working folder of ``build``, which is bash source, run
    under ``set -euo pipefail``: it makes what is wanted in the folder ``$HPCRUN_ENV``, which is there, is
    empty, and keeps its name for good, so that paths below it may be written into what is made. What it
    prints is the log. It fails by a non-zero exit code. ``record`` prints what was resolved, in a form that
    the same kind can make the same from (``conda list --explicit``, ``pip freeze``, a digest); it runs
    after ``build``, in the same shell. ``title`` is what people call it.

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
    def key(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of everything that decides what is made."""
        digest = hashlib.sha256()
        parts = [("kind", self.kind.encode()), ("build", str(self.build).encode())]
        for name, content in [*parts, *((f"file {n}", c) for n, c in sorted(self.files.items()))]:
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()[:16]
