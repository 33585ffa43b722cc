"""A snapshot brought by rsync, for sites without git: into a folder of its own, compared, then named."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path

from hpcrun.errors import CommandError, SnapshotError
from hpcrun.shells.base import RemoteShell
from hpcrun.shells.local import LocalShell
from hpcrun.shells.scripts import source
from hpcrun.snapshot import SnapshotStore

_SEND, _ASK = 3600.0, 60.0


def send_copy(shell: RemoteShell, store: SnapshotStore, tree: str, root: str) -> None:
    """Have ``root/trees/TREE`` on the site, exactly the snapshot. Raises CommandError, SnapshotError.

    What was cut off is continued by the next try, under a name that nobody uses.
    """
    with tempfile.TemporaryDirectory(prefix="hpcrun-") as folder:
        here = Path(folder) / "code"
        store.check_out(tree, here)
        part = f"{root}/trees/{tree}.part"
        shell.script('umask 077; mkdir -p -- "$1"', [part], timeout=_ASK).check(
            "making the snapshot's folder"
        )
        with shell.rsh() as rsh:

            def rsync(*options: str) -> str:
                argv = ["rsync", "-rlpt", "--delete", *options, "-e", shlex.join(rsh.argv), f"{here}/"]
                result = LocalShell().run([*argv, f"{rsh.host}:{part}/"], timeout=_SEND, env=rsh.env)
                if result.rc == 127 or "command not found" in result.stderr:
                    raise CommandError(
                        f"there is neither git nor rsync on {rsh.host}",
                        hint="One must be there. Does only a login find it? Then connection.login_shell.",
                    )
                return result.check(f"sending the snapshot to {rsh.host}").stdout

            rsync("--partial", "--compress", "-s")
            wrong = rsync("--checksum", "--dry-run", "--itemize-changes", "--omit-dir-times", "-s")
        if wrong.strip():
            raise SnapshotError(f"the snapshot on {shell.host} is not what was sent:\n{wrong[:500]}")
        words = [part, f"{root}/trees/{tree}"]
        shell.script(source("name"), words, timeout=_ASK).check("naming the snapshot's folder")
