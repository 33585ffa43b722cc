"""What goes to a remote shell, and how its answer is told from the noise around it.

A login shell of any make gets one fixed line, BOOT, which reads the length of a script, the script, and
leaves the rest of standard input to it. So nothing that a user named is ever in a command line there, and
quoting for csh or fish is nobody's concern. A script that was cut off on its way is a syntax error as a
whole: it stands in braces, and nothing of it is carried out.

The answer comes between two marks that nobody can guess. What a ``.bashrc`` says stands before the first;
an answer without the second was cut off, and what became of the command is not known.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpcrun.quoting import ShellText, ShellWord, argv_text, export

READ = 'IFS= read -r n && eval "$(dd bs=1 count="$n" 2>/dev/null)"'
BOOT = f"exec /bin/sh -c '{READ}'"
"""The remote command line for every script; the same in sh, csh and fish."""
BOOT_LOGIN = f"exec /bin/bash -lc '{READ}'"
"""The same, with what the user's profile sets: for sites where only that finds Slurm's commands."""


def new_mark() -> str:
    """A word that no output holds by chance or on purpose."""
    return f"hpcrun-{os.urandom(12).hex()}"


def request(source: str, words: Sequence[str], mark: str) -> bytes:
    """What is written to BOOT's standard input, before what the script itself reads."""
    text = ShellText(
        "{{\nprintf '\\n%s\\n' {mark}\nprintf '\\n%s\\n' {mark} >&2\n(\nset -- {words}\n".replace(
            "{mark}", "{}"
        ).replace("{words}", "{}"),
        ShellWord(mark),
        ShellWord(mark),
        argv_text(list(words)),
    )
    end = ShellText("\n)\nprintf '\\n%s %s\\n' {} \"$?\"\nexit 0\n}}\n", ShellWord(f"{mark}-end"))
    script = os.fsencode(f"{text}{source}{end}")
    return b"%d\n%s" % (len(script), script)


def command(argv: Sequence[str], cwd: str | None, env: Mapping[str, str] | None, timeout: float) -> str:
    """The script that runs one program, and ends it if it outlives its caller's patience."""
    lines = [str(export(name, value)) for name, value in (env or {}).items()]
    if cwd is not None:
        lines.append(str(ShellText("cd -- {} || exit 126", ShellWord(cwd))))
    limit = ShellText("timeout -k 2 {}", max(1, round(timeout)))
    words = argv_text(list(argv))
    lines.append(f"if command -v timeout >/dev/null 2>&1; then exec {limit} {words}; fi\nexec {words}")
    return "\n".join(lines)


@dataclass
class Frame:
    """Finds the answer in what comes back, however it is cut into pieces. ``rc`` is None until the end."""

    mark: str
    begun: bool = False
    noise: bytes = b""
    rc: int | None = None
    _rest: bytes = b""

    def feed(self, data: bytes) -> bytes:
        """The part of the answer that is certain by now."""
        if self.rc is not None:
            return b""
        data, self._rest = self._rest + data, b""
        if not self.begun:
            begin = f"\n{self.mark}\n".encode()
            before, found, data = data.partition(begin)
            if not found:
                self._rest = before
                return b""
            self.begun, self.noise = True, before
        end = re.compile(rb"\n%s-end (\d+)\n" % self.mark.encode())
        match = end.search(data)
        if match is not None:
            self.rc = int(match[1])
            return data[: match.start()]
        # The end may have come in part: from its first line break on nothing is certain.
        longest = len(self.mark) + 12
        at = data.find(b"\n", max(0, len(data) - longest))
        if at >= 0:
            self._rest = data[at:]
            return data[:at]
        return data

    def finish(self) -> bytes:
        """What was kept back, once nothing more comes."""
        kept, self._rest = self._rest, b""
        if self.begun:
            return kept
        self.noise = kept
        return b""


def strip_noise(stderr: bytes, mark: str) -> bytes:
    """Standard error without what came before the script began."""
    before, found, after = stderr.partition(f"\n{mark}\n".encode())
    return after if found else before
