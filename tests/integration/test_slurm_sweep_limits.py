"""Sweeps at sites that do not take all at once: limits on what may be queued, a controller that is gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.support import Document, Login

pytestmark = pytest.mark.cluster

SCRIPT = """\
echo "start $2" >>$HOME/starts
until [ -e "$HOME/go" ]; do sleep 0.1; done
"""
LIMIT = ["sacctmgr", "-i", "modify", "qos", "high", "set"]


@pytest.fixture
def few(login: Login) -> Iterator[Login]:
    """A QOS, high, of which a user may have no more than four jobs in the queue."""
    login.cluster.run("ctl", [*LIMIT, "MaxSubmitJobsPerUser=4"], user="root")
    yield login
    login.cluster.run("ctl", [*LIMIT, "MaxSubmitJobsPerUser=-1"], user="root")


def start(
    login: Login, count: int, *options: str, values: list[Any] | None = None, **section: Any
) -> Document:
    sweep = {"space": {"x": {"choice": values or [*range(count)]}}, "sampling": "grid", "metric": "loss",
             "goal": "minimize", **section}  # fmt: skip
    config = {"experiment": "exp", "script": "work.sh", "resources": {"qos": "high"}, "sweep": sweep}
    folder = login.project({"work.sh": SCRIPT, "sweep.yaml": json.dumps(config)}, "sweep")
    return login.json("sweep", "start", f"{folder}/sweep.yaml", "-t", "virtual", *options)


def starts(login: Login) -> list[str]:
    path = f"{login.home}/starts"
    return sorted(login.cat(path).split()[1::2]) if login.exists(path) else []


def most_at_once(login: Login, sweep: Document) -> int:
    """How many of its trials ran at the same time at most, by Slurm's own books."""
    trials = login.json("ls", "--parent", sweep["id"], "-n", "1000")["runs"]
    jobs = ",".join(run["job_id"] for run in trials)
    said = login.slurm("sacct", "-X", "-n", "-P", f"--jobs={jobs}", "--format=Start,End")
    times = [line.split("|") for line in said.splitlines()]
    assert len(times) == len(trials)
    moments = sorted([(end, -1) for _, end in times] + [(begin, 1) for begin, _ in times])
    now = most = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most


def ended_well(login: Login, sweep: Document, count: int) -> None:
    (ended,) = login.wait(sweep)
    assert (ended["state"], ended["message"]) == ("Completed", "")
    told = login.json("sweep", "status", sweep["id"])
    assert told["states"] == {"Completed": count} and told["held"] is None
    assert len(starts(login)) == len({*starts(login)}) == count, "each ran, and ran once"
    assert len(login.json("ls", "--parent", sweep["id"], "-n", "100")["runs"]) == count, "no other is left"
    assert login.json("history", "verify")["findings"] == []


def test_as_many_as_the_limit_allows(few: Login) -> None:
    """In pieces, to the last that it allows; the others as these end, and all the while it says why."""
    sweep = start(few, 10)
    told = few.json("sweep", "status", sweep["id"], "--no-refresh")
    assert (told["total"], told["waiting"], sum(told["states"].values())) == (10, 6, 4)
    assert "QOSMaxSubmitJobPerUserLimit" in told["held"]["words"]
    shown = few.hpcrun("sweep", "status", sweep["id"]).stdout
    assert "trials have ended; waiting: Slurm refused the job: QOSMaxSubmitJobPerUserLimit" in shown
    assert "QOSMaxSubmitJobPerUserLimit" in few.hpcrun("explain", sweep["id"], check=False).stdout
    done = few.hpcrun("tick")
    assert done.stdout + done.stderr == "", "nothing is wrong"
    few.write(f"{few.home}/go", "")
    ended_well(few, sweep, 10)


def test_no_more_at_once_than_wanted_for_all_that(few: Login) -> None:
    """An array that is not taken as a whole does not become several, each with the limit to itself; values
    that no array can have come in their turn."""
    few.write(f"{few.home}/go", "")
    sweep = start(few, 9, values=[1, 2, 3, "a b", 4, 5, "c d", 6, 7], max_concurrent_runs=2)
    ended = few.wait(sweep)[0]
    assert ended["state"] == "Completed"
    assert len(starts(few)) >= 9
    few.cluster.wait_for(lambda: few.slurm("squeue", "-h") == "", 30, "an empty queue")
    assert most_at_once(few, sweep) <= 2


def test_the_controller_is_gone(login: Login) -> None:
    """While trials are submitted, and longer: they are kept, and submitted once it is back."""
    login.write(f"{login.home}/go", "")
    controller = login.cluster.daemon("slurmctld")
    controller.kill()
    try:
        sweep = start(login, 4)
        told = login.json("sweep", "status", sweep["id"], "--no-refresh")
        assert (told["state"], told["waiting"]) == ("NotStarted", 4)
        assert "cannot be reached" in told["held"]["words"]
    finally:
        controller.start()
    ended_well(login, sweep, 4)
