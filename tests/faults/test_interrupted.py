"""Ctrl-C, TERM and a closed terminal at random moments of submissions to Slurm (fault 5).

Many more of them, to this machine alone, are in tests/unit/test_interrupted.py.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import time

import pytest

from tests.cluster.cluster import Cluster
from tests.faults.conftest import calls
from tests.faults.test_many_at_once import COUNTING, RUN, starts
from tests.integration.support import Login

pytestmark = pytest.mark.cluster

PROJECT = "/home/alice/project"
ON_PATH = {"PATH": "/home/alice/bin:/usr/local/bin:/usr/bin:/bin"}

# The interpreter's own start is not in our hands.
PROGRAM = (
    "import sys, pathlib, hpcrun.__main__; pathlib.Path(sys.argv.pop(1)).touch(); hpcrun.__main__.entry()"
)


@pytest.fixture
def alice(cluster: Cluster) -> Login:
    login = Login(cluster)
    login.write(f"{PROJECT}/run.yaml", json.dumps(RUN))
    login.write("/home/alice/bin/sbatch", COUNTING, mode=0o755)
    return login


def submit(
    login: Login, key: str, delay: float | None = None, number: int = signal.SIGINT
) -> tuple[int, str]:
    """Submit with a key, interrupted after a while; the exit code and all that was said."""
    argv = [sys.executable, "-c", PROGRAM, f"../up-{key}", "submit", "run.yaml", "--key", key]
    process = login.cluster.popen("login", argv, cwd=PROJECT, env=ON_PATH)
    if delay is not None:
        up = login.cluster.home() / f"up-{key}"
        login.cluster.wait_for(up.exists, 60, "hpcrun to start")
        time.sleep(delay)  # the random moment
        if process.returncode is None:
            process.send_signal(signal.Signals(number))
    out, err = process.communicate(timeout=120)
    return process.wait(), out + err


@pytest.mark.slow
def test_what_was_begun_is_finished_and_nothing_is_submitted_twice(alice: Login) -> None:
    chance = random.Random(20260131)
    began = time.monotonic()
    assert submit(alice, "first")[0] == 0
    took = time.monotonic() - began
    keys = {"first"}
    outcomes = []
    for i in range(32):
        key, number = f"k{i}", (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[i % 4]
        before = calls(alice.cluster.home() / "calls")
        code, said = submit(alice, key, chance.random() * took, number)
        assert "Traceback" not in said and "Exception ignored" not in said, said
        new = calls(alice.cluster.home() / "calls") - before
        begun = code == 0 or "submitted" in said.replace("nothing was submitted", "")
        assert new == int(begun), said
        assert begun or code in (130, -number), (code, said)
        outcomes.append((new, code))
        code, said = submit(alice, key)  # the same again, in peace
        assert code == 0 and said.startswith("already" if new else "submitted"), said
        keys.add(key)
    print(outcomes)
    assert calls(alice.cluster.home() / "calls") == len(keys)
    rows = alice.json("ls", "-n", "100", cwd=PROJECT)["runs"]
    assert {row["key"] for row in rows if "key" in row} <= keys and len(rows) == len(keys)
    ended = alice.json("wait", *(row["id"] for row in rows), cwd=PROJECT)["runs"]
    assert {run["state"] for run in ended} == {"Completed"}
    assert starts(alice) == sorted(row["id"] for row in rows)
    assert alice.json("history", "verify", cwd=PROJECT)["sound"] is True
