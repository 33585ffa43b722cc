"""This machine."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hpcrun.shells import framing
from hpcrun.shells.base import Result, Sink, Stdin
from hpcrun.shells.processes import clean_environment, end, popen


class LocalShell:
    """Runs programs here, with a scrubbed environment and no terminal to ask questions on."""

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | bytes | None = None,
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        keep_fds: Sequence[int] = (),
    ) -> Result:
        """See :class:`hpcrun.shells.base.Shell`. ``env`` is added to the scrubbed environment."""
        began = time.monotonic()
        data = os.fsencode(stdin) if isinstance(stdin, str) else stdin
        process = popen(
            argv,
            cwd,
            {**clean_environment(), **(env or {})},
            keep_fds,
            stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
            output=subprocess.PIPE,
        )
        try:
            out, err = process.communicate(data, timeout=timeout)
            rc: int | None = process.returncode
        except subprocess.TimeoutExpired:
            out, err = end(process)
            rc = None
        except BaseException:
            end(process)
            raise
        return Result(
            argv=tuple(argv),
            rc=rc,
            stdout=out.decode("utf-8", "replace"),
            stderr=err.decode("utf-8", "replace"),
            seconds=time.monotonic() - began,
        )

    def script(
        self,
        source: str,
        words: Sequence[str] = (),
        *,
        timeout: float,
        stdin: Stdin = None,
        sink: Sink | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Result:
        """See :class:`hpcrun.shells.base.Shell`."""
        from hpcrun.shells.streams import Asked

        asked = Asked(source, words, ("sh",), timeout, stdin, sink, progress)
        return asked.put(["/bin/sh", "-c", framing.READ], clean_environment()).result

    def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | str,
        env: Mapping[str, str],
        stdout: int,
        keep_fds: Sequence[int] = (),
    ) -> int:
        """Start a program of its own session that outlives this one; its pid.

        Output goes to the open file ``stdout``; ``env`` is the whole environment.
        """
        _bury(_spawned)
        process = popen(argv, cwd, env, keep_fds, stdin=subprocess.DEVNULL, output=stdout)
        pid = process.pid
        # Never waited for here: it is meant to outlive this process. Tell subprocess so, or its
        # destructor would warn about a child still running.
        process.returncode = 0
        _spawned.add(pid)
        return pid


_spawned: set[int] = set()


def _bury(pids: set[int]) -> None:
    """Take note of spawned programs that have ended: in a long-lived process, a notebook say, they would
    stay in the process table otherwise."""
    for pid in list(pids):
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            ended = True
        if ended:
            pids.discard(pid)
