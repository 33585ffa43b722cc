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
_SCRUBBED = ("SBATCH_", "SLURM_", "SRUN_", "SACCT_", "SQUEUE_", "SCANCEL_", "PMI_", "PMIX_", "OMPI_", "PRTE_")
_SCRUBBED_NAMES = {"LD_LIBRARY_PATH", "LD_PRELOAD", "OPENSSL_CONF", "PMI_RANK", "BASH_ENV", "ENV", "CDPATH"}
_KEPT = {"SLURM_CONF"}


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
        data = stdin.encode() if isinstance(stdin, str) else stdin
        process = _start(argv, cwd, {**clean_environment(), **(env or {})}, keep_fds, piped=data is not None)
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
        process = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stdout,
            start_new_session=True,
            pass_fds=tuple(keep_fds),
        )
        pid = process.pid
        # Never waited for here: it is meant to outlive this process. Tell subprocess so, or its
        # destructor would warn about a child still running.
        process.returncode = 0
        return pid


def _start(
    argv: Sequence[str], cwd: Path | str | None, env: Mapping[str, str], fds: Sequence[int], *, piped: bool
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=tuple(fds),
        )
    except FileNotFoundError as exc:
        if cwd is not None and not Path(cwd).is_dir():
            raise CommandError(f"there is no folder {cwd}") from exc
        raise CommandError(
            f"there is no program {argv[0]!r} on this machine", hint="Is it installed, and on PATH?"
        ) from exc
    except PermissionError as exc:
        raise CommandError(f"not allowed to start {argv[0]!r}: {exc.strerror}") from exc


def _end(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """End the program's whole session and read what it still said."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
        try:
            return process.communicate(timeout=2)
        except subprocess.TimeoutExpired:
            continue
    return b"", b""
