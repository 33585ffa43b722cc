"""This machine."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcrun.errors import CommandError
from hpcrun.shells.base import Result

# Left behind by a surrounding job or by conda, these change what Slurm's commands, git and rsync do:
# SBATCH_* beats the script's own directives, a leaked SLURM_CPU_BIND binds every step, conda's
# libraries break the system's ssh.
_SCRUBBED = (
    "SBATCH_",
    "SLURM_",
    "SRUN_",
    "SACCT_",
    "SQUEUE_",
    "SCANCEL_",
    "PMI_",
    "PMIX_",
    "OMPI_",
    "PRTE_",
    "HPCRUN_",
)
_SCRUBBED_NAMES = {"LD_LIBRARY_PATH", "LD_PRELOAD", "OPENSSL_CONF", "BASH_ENV", "ENV", "CDPATH"}
_SCRUBBED_NAMES |= {
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "NODE_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
}
_KEPT = {"SLURM_CONF", "HPCRUN_WORKSPACE", "HPCRUN_CONFIG_HOME"}

_GRACE = 2.0
"""Seconds that a program has between being asked to end and being killed."""


def clean_environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for programs that hpcrun starts: the caller's, without what would mislead them."""
    source = os.environ if base is None else base
    return {
        name: value
        for name, value in source.items()
        if name in _KEPT
        or not (name.startswith(_SCRUBBED) or name in _SCRUBBED_NAMES or name.startswith("BASH_FUNC_"))
    }


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
        process = _popen(
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
            out, err = _end(process)
            rc = None
        except BaseException:
            _end(process)
            raise
        return Result(
            argv=tuple(argv),
            rc=rc,
            stdout=out.decode("utf-8", "replace"),
            stderr=err.decode("utf-8", "replace"),
            seconds=time.monotonic() - began,
        )

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
        process = _popen(argv, cwd, env, keep_fds, stdin=subprocess.DEVNULL, output=stdout)
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


def _popen(
    argv: Sequence[str],
    cwd: Path | str | None,
    env: Mapping[str, str],
    fds: Sequence[int],
    *,
    stdin: int,
    output: int,
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=stdin,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=tuple(fds),
        )
    except (FileNotFoundError, NotADirectoryError) as exc:
        if cwd is not None and not Path(cwd).is_dir():
            raise CommandError(f"there is no folder {cwd}") from exc
        raise CommandError(
            f"there is no program {argv[0]!r} on this machine", hint="Is it installed, and on PATH?"
        ) from exc
    except OSError as exc:
        # Not executable, not a program, a command line too long for the kernel, no more processes.
        raise CommandError(f"cannot start {argv[0]!r}: {exc.strerror}") from exc


def _end(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """End the program and all that it started, and read what it still said.

    First asked (SIGTERM), and killed after two seconds. The group is killed even when the program itself
    has gone at once: what it started may have ignored the signal, with its output elsewhere.
    """
    _signal_group(process.pid, signal.SIGTERM)
    try:
        out, err = process.communicate(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        _signal_group(process.pid, signal.SIGKILL)
        return _last_words(process)
    deadline = time.monotonic() + _GRACE
    while _signal_group(process.pid, 0) and time.monotonic() < deadline:
        time.sleep(0.02)  # nobody tells us when a process ends that is not our child
    _signal_group(process.pid, signal.SIGKILL)
    return out, err


def _last_words(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    try:
        return process.communicate(timeout=_GRACE)
    except subprocess.TimeoutExpired as exc:
        # Something that left the session still holds the pipes open: take what there is, and let go.
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        process.wait()
        return exc.output or b"", exc.stderr or b""


def _signal_group(group: int, number: int) -> bool:
    """Signal a process group (0 only asks); whether there was anyone in it."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
