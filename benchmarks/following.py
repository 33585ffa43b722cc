"""How far behind what a run prints is what shows it elsewhere: hpcrun, and ssh with tail, side by side."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

_LINES = 400
_PRINTS = f"i=0; while [ $i -lt {_LINES} ]; do date +%s.%N; sleep 0.05; i=$((i + 1)); done"


def lags(cluster: Any, folder: Path) -> tuple[list[float], list[float]]:
    """Seconds, line by line, that ``hpcrun logs -f`` and ``ssh HOST tail -F`` are behind. The run prints the
    time; its clock is ours, since the cluster is this machine."""
    from tests import ssh_help

    runtime = Path(tempfile.mkdtemp(prefix="hb-", dir="/tmp"))
    env = {**os.environ, "XDG_RUNTIME_DIR": str(runtime)}
    try:
        config = ssh_help.ssh_config(cluster, folder / "ssh")
        site = {"type": "openssh", "host": "login", "ssh_config": str(config)}
        sites = folder / ".hpcrun" / "site_configs"
        sites.mkdir(parents=True)
        (sites / "far.yaml").write_text(
            json.dumps({"connection": site, "root": "$HOME/h", "default_partition": "main"})
        )
        (folder / "src").mkdir()
        run = {"experiment": "bench", "source_directory": "src", "command": _PRINTS}
        (folder / "run.yaml").write_text(json.dumps(run))
        hpcrun = [sys.executable, "-m", "hpcrun"]
        submit = [*hpcrun, "submit", "run.yaml", "-t", "far", "--json"]
        done = subprocess.run(
            submit, cwd=folder, env=env, check=True, capture_output=True, text=True, timeout=120
        )
        run_id = json.loads(done.stdout)["id"]
        there = f"h/runs/{run_id}/user_logs/std_log.txt"
        ours = _Clocked([*hpcrun, "logs", "-f", run_id], folder, env)
        tail = [
            "ssh",
            "-F",
            str(config),
            "-S",
            "none",
            "login",
            "tail",
            "-n",
            "+1",
            "-F",
            there,
            "2>/dev/null",
        ]
        theirs = _Clocked(tail, folder, env)
        return ours.end(), theirs.end()
    finally:
        ssh_help.end_masters(runtime)
        shutil.rmtree(runtime, ignore_errors=True)


class _Clocked:
    """A program whose lines are times; how late each came."""

    def __init__(self, argv: Sequence[str], cwd: Path, env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._late: list[float] = []
        assert self._process.stdout is not None
        self._thread = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._thread.start()

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._late.append(time.time() - float(line))
            if len(self._late) == _LINES:
                return

    def end(self) -> list[float]:
        self._thread.join(180)
        self._process.terminate()
        self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()
        if len(self._late) != _LINES:
            raise RuntimeError(f"{len(self._late)} of {_LINES} lines came")
        # What was printed before both had connected tells nothing.
        return self._late[_LINES // 4 :]


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
