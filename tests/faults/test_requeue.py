"""Requeued and preempted jobs, and jobs whose step daemon is killed (faults 14, 16)."""

from __future__ import annotations

import signal

import pytest

from tests.cluster.cluster import Cluster
from tests.faults.conftest import crash
from tests.integration.support import Document, Login, how_it_ended, states
from tests.integration.test_slurm_states import UNTIL_TOLD, tell

pytestmark = pytest.mark.cluster

ATTEMPT = f'echo "attempt $HPCRUN_ATTEMPT"; echo "$HPCRUN_ATTEMPT" >> outputs/attempts; {UNTIL_TOLD}'
# How long a requeued job must wait; the least that Slurm allows instead of two minutes.
SOON = {"AuthInfo": "cred_expire=5"}


def went_on_to_the_second_attempt(alice: Login, run: Document) -> None:
    """Let a requeued run end, and see that nothing of its first attempt is lost."""
    alice.until_logged(run, "attempt 2")
    tell(alice, run)
    (ended,) = alice.wait(run)
    assert how_it_ended(ended) == ("Completed", "", 0)
    assert ended["job_id"] == run["job_id"]
    first, second = ended["attempts"]
    assert (first["number"], second["number"], second["exit_code"]) == (1, 2, 0)
    assert first["word"] != "PENDING" and "requeued" in first and "requeued" not in second
    assert alice.log(ended) == "attempt 1\nbegun\nattempt 2\nbegun\ngone on\n"
    assert alice.read(ended, "outputs/attempts") == "1\n2\n"
    system = alice.read(ended, "system_logs/job.txt")
    assert system.index("attempt 1 of") < system.index("attempt 2 of")
    seen = states(ended)
    assert "Queued" in seen[seen.index("Running") :]
    shown = alice.hpcrun("show", run["id"]).stdout
    assert "attempts    1: began" in shown and ", requeued" in shown and "2: began" in shown


def test_a_requeued_run(alice: Login, cluster: Cluster) -> None:
    """Fault 14: not an end, with no word of one in its states; each attempt is kept, and shown."""
    cluster.reconfigure(SOON)
    run = alice.submit({"command": ATTEMPT})
    alice.until_logged(run, "begun")
    alice.until_state(run, "Running")
    alice.slurm("scontrol", "requeue", run["job_id"])
    alice.until_state(run, "Queued", "BeginTime")
    went_on_to_the_second_attempt(alice, run)


def test_a_preempted_run(alice: Login, cluster: Cluster) -> None:
    """Fault 14: a job that goes first takes its nodes; it waits, and begins anew."""
    cluster.reconfigure(SOON)
    alice.add_site("preempted", partitions={"preempt": {}}, defaults={"partition": "preempt"})
    config = {"command": ATTEMPT, "resources": {"nodes": 3, "exclusive": True}}
    run = alice.submit(config, "-t", "preempted:preempt")
    alice.until_logged(run, "begun")
    alice.until_state(run, "Running")
    argv = ["sbatch", "--parsable", "--nodes=3", "--exclusive", "--output=/dev/null", "--wrap=sleep 600"]
    bobs = cluster.run("login", argv, user="bob").stdout.strip()

    def queued() -> bool:
        return bool(alice.show(run)["state"] == "Queued")

    cluster.wait_for(queued, 60, "the run to be preempted")
    cluster.run("login", ["scancel", bobs], user="bob")
    went_on_to_the_second_attempt(alice, run)


def test_the_queue_is_silent_while_the_books_call_a_requeued_job_ended(
    alice: Login, cluster: Cluster
) -> None:
    """Fault 14: of a requeued job the books keep the first attempt's end; it is none of the run's."""
    run = alice.submit({"command": ATTEMPT})
    alice.until_logged(run, "begun")
    node = alice.until_state(run, "Running")["nodes"]
    crash(cluster, node)
    cluster.run("ctl", ["scontrol", "update", f"nodename={node}", "state=down", "reason=gone"], user="root")
    alice.until_state(run, "Queued", "BeginTime")

    def booked() -> str:
        return alice.slurm("sacct", "-X", "-n", "-P", f"--name={run['id']}", "--format=State").strip()

    cluster.wait_for(lambda: booked() == "NODE_FAIL", 30, "the books to call it ended")
    cluster.daemon("slurmctld").kill()
    shown = alice.hpcrun("show", run["id"], "--json")
    assert "shown as last seen" in shown.stderr and '"state": "Queued"' in shown.stdout


def test_the_step_daemon_is_killed_after_the_payload_ended_well(alice: Login, cluster: Cluster) -> None:
    """Fault 16: Slurm calls it a failure of the node; the job had said that it ended well, and it had."""
    run = alice.submit({"command": UNTIL_TOLD, "resources": {"sbatch": {"no-requeue": True}}})
    alice.until_logged(run, "begun")
    node = alice.until_state(run, "Running")["nodes"]
    batch = cluster.processes(node, "slurmstepd")[0]  # that of the payload's step came later
    batch.signal(signal.SIGSTOP)  # it cannot tell of the end that comes now
    tell(alice, run)
    alice.until_said(run, "exit code 0")
    batch.signal(signal.SIGKILL)
    assert alice.show(run)["state"] == "Finalizing"
    cluster.run("ctl", ["scontrol", "update", f"nodename={node}", "state=down", "reason=gone"], user="root")
    (ended,) = alice.wait(run)
    assert how_it_ended(ended) == ("Completed", "", 0)
    assert ended["attempts"][0]["word"] in ("NODE_FAIL", "RUNNING")


@pytest.mark.slow
def test_the_step_daemon_of_a_running_job_is_killed(alice: Login, cluster: Cluster) -> None:
    """Fault 16: the job says that it runs; Slurm finds out after a minute that it does not, and counts."""
    run = alice.submit({"command": UNTIL_TOLD, "resources": {"sbatch": {"no-requeue": True}}})
    alice.until_logged(run, "begun")
    node = alice.until_state(run, "Running")["nodes"]
    for daemon in cluster.processes(node, "slurmstepd"):
        daemon.signal(signal.SIGKILL)
    assert alice.show(run)["state"] == "Running"
    (ended,) = alice.wait(run, timeout=300)
    assert (ended["state"], ended["reason"]) == ("Failed", "NodeFail")
