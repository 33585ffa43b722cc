"""Programs on this machine: how they are started, in what environment, and how they are ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from hpcrun.errors import CommandError

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


def start(
    argv: Sequence[str], env: Mapping[str, str], *, stdin: int, output: int, cwd: Path | str | None = None
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own; ``env`` is the whole environment. Raises CommandError."""
    return popen(argv, cwd, env, (), stdin=stdin, output=output)


def attended(argv: Sequence[str], env: Mapping[str, str], *, timeout: float, aside: Path) -> int:
    """Run a program for whoever sits at the terminal, which it has for itself; its exit code. What others
    write to the file ``aside`` is shown too.

    Ctrl-C reaches it as it reaches us: it has a moment to put the terminal right. Raises CommandError.
    """
    deadline = time.monotonic() + timeout
    try:
        process = subprocess.Popen(list(argv), env=dict(env), cwd="/")
    except OSError as exc:
        raise CommandError(f"cannot start {argv[0]!r}: {exc.strerror}") from exc
    try:
        with aside.open("rb") as said:
            while time.monotonic() < deadline:
                ended = _wait(process, 0.1)
                sys.stderr.write(said.read().decode("utf-8", "replace"))
                sys.stderr.flush()
                if ended:
                    return process.returncode
        raise CommandError(f"{argv[0]} was given {timeout:.0f} s, and nobody answered it")
    finally:
        _let_end(process)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _let_end(process: subprocess.Popen[bytes]) -> None:
    for number in (0, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(number)
            _wait(process, _GRACE)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a program and what it started: asked first, killed after two seconds."""
    _signal_group(process.pid, signal.SIGTERM)
    _wait(process, _GRACE)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()


def popen(
    argv: Sequence[str],
    cwd: Path | str | None,
    env: Mapping[str, str],
    fds: Sequence[int],
    *,
    stdin: int,
    output: int,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own. Raises CommandError; an interruption meanwhile ends it."""
    try:
        with _interruptions_later() as missed:
            process = subprocess.Popen(
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
    try:
        for number, handler in missed:
            handler(number, None)
    except BaseException:
        end(process)
        raise
    return process


_Handler = Callable[[int, FrameType | None], object]


@contextmanager
def _interruptions_later() -> Iterator[list[tuple[int, _Handler]]]:
    """Signals that this program minds and that come meanwhile, with what minds them. While a program is being
    started, an exception would leave it running with nobody who knows of it."""
    missed: list[tuple[int, _Handler]] = []
    minded: dict[int, _Handler] = {}
    numbers = (int(signal.SIGINT), int(signal.SIGTERM), int(signal.SIGHUP))
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            handler = signal.getsignal(number)
            if callable(handler):
                minded[number] = handler
    try:
        for number in minded:
            signal.signal(number, lambda got, frame: missed.append((got, minded[got])))
        yield missed
    finally:
        for number, handler in minded.items():
            signal.signal(number, handler)


def end(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
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
