"""known_hosts: which key a host showed before. Text in, a verdict out; whoever is not known is refused.

Names may be hashed, patterns, or negated, as sshd(8) has it. Keys of ``@cert-authority`` lines are no host's
own; ``@revoked`` ones are nobody's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from hpcrun.errors import UnreachableError

_MARKERS = ("@revoked", "@cert-authority")


@dataclass(frozen=True)
class HostKey:
    """What a server shows: the key's type, as ``ssh-ed25519``, and its bytes."""

    type: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """As ssh shows it."""
        digest = hashlib.sha256(self.blob).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"

    def __str__(self) -> str:
        return f"{self.type} {base64.b64encode(self.blob).decode()}"


@dataclass(frozen=True)
class Line:
    """One line: ``where`` is ``file:line``."""

    where: str
    marker: str
    names: tuple[str, ...]
    key: HostKey

    def names_host(self, name: str) -> bool:
        found = False
        for pattern in self.names:
            if pattern.startswith("!"):
                if _fits(pattern[1:], name):
                    return False
            elif _fits(pattern, name):
                found = True
        return found


def _fits(pattern: str, name: str) -> bool:
    if pattern.startswith("|1|"):
        try:
            salt, digest = (base64.b64decode(part, validate=True) for part in pattern.split("|")[2:4])
        except (ValueError, binascii.Error):
            return False
        return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)
    # Brackets stand for themselves here: "[host]:2222".
    return fnmatchcase(name, pattern.lower().replace("[", "[[]"))


class KnownHosts:
    """All lines of some known_hosts files. A file that is not there holds none."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = list(paths)
        self._lines = [line for path in self._paths for line in _read(path)]

    def types(self, name: str) -> list[str]:
        """The types of the keys that are known of a host, in the files' order."""
        return [line.key.type for line in self._lines if not line.marker and line.names_host(name.lower())]

    def check(self, name: str, key: HostKey) -> None:
        """Raise UnreachableError unless the host is known by this key.

        ``name`` is as known_hosts has it: ``host``, or ``[host]:port`` where the port is not 22.
        """
        lines = [line for line in self._lines if line.names_host(name.lower())]
        same = [line for line in lines if line.key == key]
        shown = f"It shows the {key.type} key {key.fingerprint}"
        for line in same:
            if line.marker == "@revoked":
                raise UnreachableError(
                    f"{name} is refused. {shown}, which {line.where} calls revoked",
                    hint="Whoever has this key is not the site. Ask those who run it.",
                )
        if any(not line.marker for line in same):
            return
        others = [line for line in lines if not line.marker]
        if others:
            raise UnreachableError(
                f"{name} is refused: it is known by another key. {shown}; {others[0].where} has"
                f" {others[0].key.fingerprint}. Somebody may be in between, or the site has a new key",
                hint="Ask those who run it, or read their documentation. If the key is new, take away"
                f" {', '.join(line.where for line in others)}, and put in:\n    {name} {key}",
            )
        where = self._paths[0] if self._paths else "known_hosts"
        raise UnreachableError(
            f"{name} is refused: no known_hosts file names it. {shown}",
            hint="Compare this with the fingerprint that the site publishes. If they are the same, add to"
            f" {where}:\n    {name} {key}",
        )


def _read(path: Path) -> Iterator[Line]:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        marker = fields.pop(0) if fields and fields[0] in _MARKERS else ""
        if len(fields) < 3 or fields[0].startswith(("#", "@")):
            continue
        try:
            blob = base64.b64decode(fields[2], validate=True)
        except (ValueError, binascii.Error):
            continue
        yield Line(f"{path}:{number}", marker, tuple(fields[0].split(",")), HostKey(fields[1], blob))
