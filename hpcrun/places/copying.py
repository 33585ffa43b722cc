"""A snapshot brought by rsync, for sites without git: into a folder of its own, compared, then named."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import tempfile
from pathlib import Path

from hpcrun.errors import CommandError, SnapshotError
from hpcrun.shells.base import RemoteShell, Result
from hpcrun.shells.local import LocalShell
from hpcrun.shells.scripts import source
from hpcrun.snapshot import SnapshotStore

_SEND, _ASK = 3600.0, 60.0
# rsync's own codes for a connection that ended: in its protocol, in reading, by a signal, by ssh's own end.
_CUT = (10, 12, 20, 30, 35, 255)


def send_copy(
    shell: RemoteShell, store: SnapshotStore, tree: str, root: str, others: list[str], workspace: str
) -> Result:
    """Have ``root/trees/TREE`` on the site, exactly the snapshot. Of the snapshots ``others`` that are there
    it takes what has not changed. What became of it; cut off, it has ``lost``.

    What was cut off is continued by the next try, under a name that only this workspace uses. Raises
    CommandError, SnapshotError.
    """
    part = f"{root}/trees/{tree}.{workspace_word(workspace)}"
    with tempfile.TemporaryDirectory(prefix="hpcrun-") as folder:
        here = Path(folder) / "code"
        store.check_out(tree, here)
        result = shell.script('umask 077; mkdir -p -- "$1"', [part], timeout=_ASK)
        if not result.ok:
            return result
        with shell.rsh() as rsh:
            # By what is in the files, not by their times: a working copy has new ones each time.
            argv = ["rsync", "-rlp", "-s", "--checksum", "--delete", "-e", shlex.join(rsh.argv)]
            ends = [f"{here}/", f"{rsh.host}:{part}/"]
            more = ["--partial", "--compress", *(f"--copy-dest=../{other}" for other in others[:3])]
            result = LocalShell().run([*argv, *more, *ends], timeout=_SEND, env=rsh.env)
            if result.ok:
                more = ["--dry-run", "--itemize-changes"]
                result = LocalShell().run([*argv, *more, *ends], timeout=_SEND, env=rsh.env)
    if not result.ok:
        return _understood(result, shell.host)
    if result.stdout.strip():
        raise SnapshotError(f"the snapshot on {shell.host} is not what was sent:\n{result.stdout[:500]}")
    words = [part, f"{root}/trees/{tree}"]
    return shell.script(source("folders", "name"), words, timeout=_ASK)


def workspace_word(workspace: str) -> str:
    """A word that no other workspace has, on whatever machine."""
    return hashlib.sha256(os.fsencode(f"{platform.node()}\0{workspace}")).hexdigest()[:12]


def _understood(result: Result, host: str) -> Result:
    if "command not found" in result.stderr or "rsync: not found" in result.stderr:
        raise CommandError(
            f"there is neither git nor rsync on {host}",
            hint="Ask for one of them, or load it where every shell there does: in ~/.bashrc, say.",
        )
    if "is your shell clean" in result.stderr:
        raise CommandError(
            f"the login shell on {host} says something unasked, which rsync does not survive",
            hint="Let .bashrc on the site be silent where no terminal is, or have git there.",
        )
    if result.rc in _CUT:
        return Result(result.argv, None, "", result.stderr, result.seconds, "the connection broke")
    return result
