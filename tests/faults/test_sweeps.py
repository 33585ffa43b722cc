"""Ticks of a sweep under a real Slurm: killed anywhere, on two machines, by clocks that differ, days late."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from typing import Any

import pytest

from tests.integration.support import Document, Login

pytestmark = pytest.mark.cluster

KILLS = 16
MOST = 3
SCRIPT = """\
echo "start $2" >>$HOME/starts
mkdir -p "$HPCRUN_RUN_DIR/metrics"
echo "{\\"n\\": \\"loss\\", \\"v\\": $2, \\"t\\": 1.0}" >>"$HPCRUN_RUN_DIR/metrics/rank_000.jsonl"
[ "$2" -lt 100 ] || sleep 600
"""


def start(login: Login, values: list[int], **section: Any) -> Document:
    space = {"space": {"x": {"choice": values}}, "sampling": "grid", "metric": "loss", "goal": "minimize"}
    sweep = {**space, "policy": {"bandit": {"slack_amount": 9999}}, **section}
    config = {"experiment": "exp", "script": "work.sh", "sweep": sweep}
    folder = login.project({"work.sh": SCRIPT, "sweep.yaml": json.dumps(config)}, "sweep")
    return login.json("sweep", "start", f"{folder}/sweep.yaml", "-t", "virtual")


def test_ticks_are_killed_at_random(alice: Login) -> None:
    """On the login node, whose clock is minutes off, and on another machine at the same time: each trial runs
    once, by Slurm's books as by its own word, all of them do, and never too many."""
    chance = random.Random(20260131)
    sweep = start(alice, [*range(24)], max_concurrent_runs=MOST, max_duration_minutes=30)
    began = time.monotonic()
    alice.hpcrun("tick")
    whole = time.monotonic() - began
    kills = rounds = 0
    while kills < KILLS:
        rounds += 1
        assert rounds < 4 * KILLS, "ticks are too quick to be killed"
        ticks = []
        for host in ("login", "node1"):
            seconds = f"{chance.uniform(0.2, 1.2 * whole):.2f}"
            clock = ["faketime", "-f", chance.choice(["-4m", "+4m"])] if host == "login" else []
            argv = ["timeout", "-s", "KILL", seconds, *clock, *alice.argv("tick")]
            ticks.append(alice.cluster.popen(host, argv, cwd=alice.home))
        for tick in ticks:
            tick.communicate(timeout=60)
            kills += tick.returncode != 0
    (ended,) = alice.wait(sweep, timeout=240)
    assert (ended["state"], ended["message"]) == ("Completed", "")
    trials = alice.json("ls", "--parent", sweep["id"], "-n", "100")["runs"]
    numbers = Counter(run["key"] for run in trials if run["key"])
    assert numbers == Counter(f"{sweep['id']}/{number}" for number in range(24))
    begun = Counter(alice.cat(f"{alice.home}/starts").split()[1::2])
    assert begun == Counter(map(str, range(24))), "each began, and began once"
    said = alice.slurm("sacct", "-X", "-n", "-P", "--starttime=now-1hour", "--format=JobID,Start,End,JobName")
    jobs = [line.split("|") for line in said.splitlines()]
    ours = {run["job_id"]: run for run in trials}
    times = [(begin, end) for job_id, begin, end, _ in jobs if job_id in ours]
    assert len(times) == 24
    assert max(sum(a <= begin < end for a, end in times) for begin, _ in times) <= MOST


def test_days_late(alice: Login) -> None:
    """The sweep's time is over by then: what runs is canceled, and what has not begun never does."""
    sweep = start(alice, [100, 101, 102], max_concurrent_runs=2, max_duration_minutes=10)
    alice.cluster.wait_for(lambda: len(_running(alice)) == 2, 60, "two to run")

    def over() -> bool:
        alice.cluster.run("login", ["faketime", "-f", "+5d", *alice.argv("tick")], timeout=120)
        return not _running(alice)

    alice.cluster.wait_for(over, 60, "what runs to end")
    alice.cluster.wait_for(lambda: alice.show(sweep)["state"] == "Canceled", 60, "the sweep to end")
    assert alice.show(sweep)["reason"] == "Timeout"
    trials = alice.json("ls", "--parent", sweep["id"])["runs"]
    assert [run["state"] for run in trials] == ["Canceled"] * 2


def _running(login: Login) -> list[str]:
    return login.slurm("squeue", "--noheader", "--states=R", "--format=%i").split()
