"""Jobs that Slurm knows nothing of: not yet, no more, or of another job's number (faults 10, 12, 13)."""

from __future__ import annotations

import pytest

from tests.cluster.cluster import Cluster
from tests.faults.conftest import crash, give_up_soon
from tests.integration.support import Document, Login, how_it_ended, states
from tests.integration.test_slurm_states import UNTIL_TOLD, tell

pytestmark = pytest.mark.cluster

PAYLOADS = {
    "true": ("Completed", "", 0),
    "exit 3": ("Failed", "BadExit", 3),
    "kill -9 $$": ("Failed", "Signal", 137),
}


def test_short_jobs_that_leave_the_queue_before_the_books_know_them(alice: Login, cluster: Cluster) -> None:
    """Fault 10: looked at all the time, none is ever anything but on its way or at its own right end."""
    alice.quickly_forgotten()
    runs = {payload: alice.submit({"command": payload}) for payload in [*PAYLOADS] * 2}
    seen: dict[str, list[Document]] = {run["id"]: [] for run in runs.values()}

    def all_ended() -> bool:
        rows = {row["id"]: row for row in alice.json("ls", cwd=f"{alice.home}/project")["runs"]}
        for run_id, found in seen.items():
            found.append(rows[run_id])
        return all(found[-1]["state"] in ("Completed", "Failed", "Canceled") for found in seen.values())

    cluster.wait_for(all_ended, 120, "all runs to end")
    for payload, run in runs.items():
        assert how_it_ended(alice.show(run)) == PAYLOADS[payload]
        assert {row["state"] for row in seen[run["id"]]} <= {
            *("Queued", "Starting", "Running", "Finalizing"),
            PAYLOADS[payload][0],
        }


# The books' lag of some seconds, for as long as the test needs it.
LATE = """\
#!/bin/bash
[ ! -e /home/alice/caught-up ] || exec /usr/bin/sacct "$@"
"""


def test_jobs_in_neither_the_queue_nor_the_books(alice: Login) -> None:
    """Fault 10: unknown is no state: each stays what it was until the books say how it ended."""
    # KillWait as at most sites, so that a job on a busy machine has the time to tell how it ended.
    alice.cluster.reconfigure({"MinJobAge": "2", "KillWait": "30"})
    alice.write(f"{alice.home}/bin/sacct", LATE, mode=0o755)
    late = {"PATH": f"{alice.home}/bin:/usr/bin:/bin"}
    waiting = alice.submit({"command": "true", "resources": {"sbatch": {"hold": True}}})
    running = alice.submit({"command": "echo begun; sleep 600"})
    alice.until_logged(running, "begun")
    alice.until_state(waiting, "Queued", "JobHeldUser")
    alice.until_state(running, "Running")
    alice.slurm("scancel", waiting["job_id"], running["job_id"])
    alice.until_forgotten(waiting, running)
    for _ in range(2):
        for run, state in ((waiting, "Queued"), (running, "Running")):
            assert alice.json("show", run["id"], env=late)["state"] == state
    assert alice.json("show", running["id"])["attempts"][0]["exit_code"] == 143, "it had said how it ended"
    alice.write(f"{alice.home}/caught-up", "")
    for ended in alice.json("wait", waiting["id"], running["id"], env=late, check=False)["runs"]:
        assert (ended["state"], ended["reason"]) == ("Canceled", "Canceled")


def test_jobs_that_the_queue_has_purged(alice: Login, cluster: Cluster) -> None:
    """Fault 12: asked for by its id, a purged job is an error; nobody looked before, and all is well."""
    alice.quickly_forgotten()
    runs = {payload: alice.submit({"command": payload}) for payload in PAYLOADS}
    alice.until_forgotten(*runs.values())
    for run in runs.values():
        alone = cluster.run("login", ["squeue", f"--jobs={run['job_id']}"], check=False)
        assert alone.returncode == 1 and "Invalid job id" in alone.stderr
    first = next(iter(runs.values()))
    assert alice.hpcrun("show", first["id"]).stderr == ""
    ended = dict(zip(runs, alice.wait(*runs.values()), strict=True))
    assert {payload: how_it_ended(run) for payload, run in ended.items()} == PAYLOADS


def test_job_numbers_start_again(alice: Login, cluster: Cluster) -> None:
    """Fault 13: an earlier job of the same number has Completed, and that is nobody's business."""
    alice.quickly_forgotten()
    cluster.restart_controller(clear_state=True)
    old = alice.finish({"command": "true"})
    assert how_it_ended(old) == ("Completed", "", 0)
    old = alice.show(old)
    cluster.wait_for(
        lambda: "COMPLETED" in alice.slurm("sacct", "-X", "-n", "-j", old["job_id"]), 30, "sacct"
    )
    cluster.restart_controller(clear_state=True)
    cluster.wait_idle()

    new = alice.submit({"command": f"{UNTIL_TOLD}; exit 5"})
    assert new["job_id"] == old["job_id"]
    alice.until_logged(new, "begun")
    assert alice.show(new)["state"] in ("Starting", "Running")
    assert alice.show(old) == old
    tell(alice, new)
    (ended,) = alice.wait(new)
    assert how_it_ended(ended) == ("Failed", "BadExit", 5)
    assert "Completed" not in states(ended)


# Slurm 24.11 sets such books right when its controller starts with an empty state; others do not.
BOOKS = """\
#!/bin/bash
/usr/bin/sacct "$@" | sed 's/|CANCELLED[^|]*|/|RUNNING|/'
"""


@pytest.mark.parametrize("books", ["right", "wrong"])
def test_the_controller_forgets_a_running_job(alice: Login, cluster: Cluster, books: str) -> None:
    """Fault 13: what the books say of its end counts; that it runs for ever does not, and it is Lost."""
    run = alice.submit({"command": UNTIL_TOLD})
    alice.until_logged(run, "begun")
    node = alice.until_state(run, "Running")["nodes"]
    sacct = ("sacct", "-X", "-n", "-P", f"--name={run['id']}", "--format=State")
    cluster.wait_for(lambda: alice.slurm(*sacct).strip() == "RUNNING", 30, "the books to know the job")
    crash(cluster, node)
    cluster.restart_controller(clear_state=True)
    assert not alice.in_queue(run)
    if books == "right":
        (ended,) = alice.wait(run)
        assert (ended["state"], ended["reason"]) == ("Canceled", "Canceled")
        return
    path = f"{alice.home}/bin"
    alice.write(f"{path}/sacct", BOOKS, mode=0o755)
    assert give_up_soon(alice, run, path) == ["Running", "Failed"]
    assert how_it_ended(alice.show(run)) == ("Failed", "Lost", None)
