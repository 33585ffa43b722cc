"""Runs that are ended before their time: by a limit, by a job that goes first, by a node that fails."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.cluster.cluster import Cluster
from tests.faults.conftest import crash
from tests.integration.support import Document, Login, how_it_ended, states
from tests.integration.test_slurm_states import UNTIL_TOLD, fill_the_cluster

pytestmark = pytest.mark.cluster

# How long a requeued job must wait; the least that Slurm allows instead of two minutes.
SOON = {"AuthInfo": "cred_expire=5"}

# A plain command, which never ends: one step an attempt, begun where the last attempt was.
COUNTS = """\
step=$(cat outputs/step 2>/dev/null || echo 0)
echo "attempt $HPCRUN_ATTEMPT begins at $step"
trap 'echo $((step + 1)) >outputs/step; echo saved; exit 0' USR2
while :; do sleep 0.1; done
"""
STUBBORN = """\
trap 'echo told' USR2
echo "attempt $HPCRUN_ATTEMPT"
while [ "$HPCRUN_ATTEMPT" = 1 ]; do sleep 0.1; done
"""
SAVES = "trap 'echo saved; exit 0' TERM; while :; do sleep 0.1; done"


class Watched:
    """Runs that are looked at all the while: the states that each was ever seen in."""

    def __init__(self, login: Login, *runs: Document) -> None:
        self.login, self.ids = login, [run["id"] for run in runs]
        self.seen: dict[str, list[tuple[str, str]]] = {run["id"]: [] for run in runs}

    def look(self) -> dict[str, Document]:
        shown = {run_id: self.login.json("show", run_id) for run_id in self.ids}
        for run_id, run in shown.items():
            now = (run["state"], run["reason"])
            if self.seen[run_id][-1:] != [now]:
                self.seen[run_id].append(now)
        return shown

    def until_all_have_ended(self, timeout: float) -> list[Document]:
        last: dict[str, Document] = {}

        def ended() -> bool:
            last.update(self.look())
            return all(run["state"] in ("Completed", "Failed", "Canceled") for run in last.values())

        self.login.cluster.wait_for(ended, timeout, "all runs to end")
        for run_id, seen in self.seen.items():
            finals = [state for state, _ in seen if state in ("Completed", "Failed", "Canceled")]
            assert len(finals) == 1, (run_id, seen)
        return [last[run_id] for run_id in self.ids]


def requeue(*causes: str, most: int = 3, signal: str = "USR2@30") -> Document:
    return {"requeue": {"on": list(causes), "max": most, "signal": signal}}


def own_lines(login: Login, run: Document) -> list[str]:
    """What the command itself printed: bash also says which signal ended its sleep."""
    return [line for line in login.log(run).splitlines() if "signal" not in line and "Terminated" not in line]


def test_time_limits(login: Login, cluster: Cluster) -> None:
    """A plain command goes on where it was, as often as it may; what will not end is ended, and queued again;
    a run's own limit cancels it, to the second. No look at any of them falls on an end that is none."""
    cluster.reconfigure(SOON)
    minute = {"resources": {"time": "1m"}}
    counts = login.submit({"command": COUNTS, **minute, **requeue("timeout", most=1)})
    secret = {"secrets": {"TOKEN": f"file:{login.write('/home/alice/token', 'canary', mode=0o600)}"}}
    knows = f'[ "$TOKEN" = canary ] || exit 9\n{STUBBORN}'
    stubborn = login.submit({"command": knows, **secret, **minute, **requeue("timeout", signal="USR2@8")})
    short = login.submit({"command": SAVES, "max_run_duration_seconds": 5})
    watched = Watched(login, counts, stubborn, short)
    counts, stubborn, short = watched.until_all_have_ended(240)

    assert own_lines(login, counts) == ["attempt 1 begins at 0", "saved", "attempt 2 begins at 1", "saved"]
    assert (counts["state"], counts["reason"]) == ("Failed", "Timeout")
    assert ["requeued" in attempt for attempt in counts["attempts"]] == [True, False]
    assert "Queued" in states(counts)[states(counts).index("Running") :]
    system = login.read(counts, "system_logs/job.txt")
    assert "timeout: the run is queued again, 1 of at most 1" in system and "attempt 2 of" in system

    assert how_it_ended(stubborn) == ("Completed", "", 0)
    assert own_lines(login, stubborn) == ["attempt 1", "told", "attempt 2"]
    assert not login.exists(f"{stubborn['run_dir']}/secrets.sh"), "it was there for both, and no longer"

    assert (short["state"], short["reason"]) == ("Canceled", "Timeout")
    assert own_lines(login, short) == ["saved"]
    assert short["message"] == "the run may run for 5 seconds in all"
    (attempt,) = short["attempts"]
    assert 4 <= seconds(attempt["started"], attempt["ended"]) <= 8, "Slurm itself counts in minutes"


def seconds(start: str, end: str) -> float:
    times = [datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (start, end)]
    return (times[1] - times[0]).total_seconds()


# Saves when it is told, by the signal or by TERM, which hpcrun.tracking listens for; three steps in all.
LEARNS = """\
import sys, time
from pathlib import Path
from hpcrun import tracking

saved = Path("outputs/saved")
found = saved.read_text() if saved.exists() else "nothing"
print("restart", tracking.restart_count(), "with", found, flush=True)

def save():
    saved.write_text(f"what attempt {tracking.restart_count() + 1} saved")
    print("saved", flush=True)
    sys.exit(0)

with tracking.on_preempt(save):
    print("begun", flush=True)
    while not Path("go").exists():
        time.sleep(0.05)
print("done", flush=True)
"""


def preempt(login: Login, run: Document, number: int) -> None:
    """Once the run has begun for the ``number``-th time, a job of bob's takes all nodes; it leaves again."""
    login.cluster.wait_for(lambda: login.log(run).count("begun") == number, 60, f"attempt {number}")
    blocker = fill_the_cluster(login)
    login.cluster.wait_for(lambda: login.log(run).splitlines().count("saved") == number, 60, "the checkpoint")
    login.cluster.run("login", ["scancel", blocker], user="bob")


@pytest.mark.parametrize("mode", ["requeue", "cancel"])
def test_preempted(login: Login, cluster: Cluster, mode: str) -> None:
    """However the partition has it, the run comes back, as often as it may, and ends as Preempted."""
    cluster.reconfigure(SOON)
    cluster.run("ctl", ["scontrol", "update", "partitionname=preempt", f"preemptmode={mode}"], user="root")
    login.add_site("preempted", partitions={"preempt": {}}, defaults={"partition": "preempt"})
    login.project({"learn.py": LEARNS})
    run = login.submit(
        {
            "script": "learn.py",
            "resources": {"nodes": 3, "exclusive": True},
            **requeue("preempted", "timeout", most=1),
        },
        *("-t", "preempted:preempt"),
    )
    watched = Watched(login, run)
    preempt(login, run, 1)
    watched.look()
    preempt(login, run, 2)
    (run,) = watched.until_all_have_ended(90)
    assert (run["state"], run["reason"], len(run["attempts"])) == ("Failed", "Preempted", 2)
    said = [line for line in login.log(run).splitlines() if line.startswith("restart")]
    assert said == ["restart 0 with nothing", "restart 1 with what attempt 1 saved"]


def test_the_example_goes_on_where_it_was(login: Login, cluster: Cluster) -> None:
    """Data-parallel training on two nodes: saved by all together when told, and brought to its loss."""
    cluster.reconfigure(SOON)
    login.add_site("preempted", partitions={"preempt": {}}, defaults={"partition": "preempt"})
    example = login.example("pytorch")
    options = ("--set", "arguments=[--epochs, 12, --loss, 0.001, --pause, 0.5]", "--set", "requeue.max=1")
    run = login.json("submit", f"{example}/run.yaml", "-t", "preempted:preempt", *options)
    watched = Watched(login, run)
    cluster.wait_for(lambda: "epoch 1" in login.log(run, 0), 120, "some epochs")
    blocker = fill_the_cluster(login)
    cluster.run("login", ["scancel", blocker], user="bob")
    cluster.wait_for(lambda: "goes on at epoch" in login.log(run, 3), 120, "the second attempt")
    (run,) = watched.until_all_have_ended(120)
    assert how_it_ended(run) == ("Completed", "", 0)
    summary = login.read(run, "outputs/summary.txt")
    assert summary.startswith("world size 4, loss 0.000") and summary.endswith("after 2 attempts\n")
    epochs = [line.partition("epoch ")[2].partition(":")[0] for line in login.log(run, 0).splitlines()]
    done = [int(epoch) for epoch in epochs if epoch.isdigit()]
    first = int(login.log(run, 0).partition("goes on at epoch ")[2].split()[0])
    # An epoch that was begun when the end came is done again; none is left out.
    assert sorted(set(done)) == list(range(12)) and first >= 2 and len(done) <= 14


def kill_node(cluster: Cluster, run: Document) -> None:
    node = str(run["nodes"])
    crash(cluster, node)
    cluster.run("ctl", ["scontrol", "update", f"nodename={node}", "state=down", "reason=gone"], user="root")


def test_a_node_is_killed(login: Login, cluster: Cluster) -> None:
    """On another node, once; the second time the run ends as what it was; so does one that did not ask, and
    one that asked for other causes, though Slurm has but one switch for two of them."""
    cluster.reconfigure(SOON)
    text = f'echo "attempt $HPCRUN_ATTEMPT"; {UNTIL_TOLD}'
    alone = {"resources": {"nodes": 1, "exclusive": True}}
    again = login.submit({"command": text, **alone, **requeue("node_fail", most=1)})
    never = login.submit({"command": text, **alone, **requeue("timeout")})
    other = login.submit({"command": text, **alone, **requeue("preempted")})
    for run in (again, never, other):
        login.until_logged(run, "begun")
    runs = [login.until_state(run, "Running") for run in (again, never, other)]
    watched = Watched(login, *runs)
    for run in runs:
        kill_node(cluster, run)
    watched.look()
    for run in runs:
        cluster.daemon("slurmd", str(run["nodes"])).start()
    cluster.wait_for(lambda: "attempt 2" in login.log(again), 90, "the second attempt")
    watched.look()
    kill_node(cluster, login.until_state(again, "Running"))
    again, never, other = watched.until_all_have_ended(120)
    for run, number in ((again, 2), (never, 1), (other, 2)):
        assert (run["state"], run["reason"], len(run["attempts"])) == ("Failed", "NodeFail", number)
    assert login.log(again).count("begun") == 2 and login.log(other).count("begun") == 1


def test_a_canceled_run_is_never_queued_again(login: Login) -> None:
    run = login.submit({"command": SAVES + "; echo begun", **requeue("timeout", "preempted", "node_fail")})
    login.until_state(run, "Running")
    login.slurm("scancel", run["job_id"])
    (run,) = Watched(login, run).until_all_have_ended(60)
    assert (run["state"], run["reason"], len(run["attempts"])) == ("Canceled", "Canceled", 1)
