"""Slurm's daemons dead or hung: states stay and are marked; what still speaks is heard (faults 9, 11)."""

from __future__ import annotations

import signal

import pytest

from tests.cluster.cluster import Cluster
from tests.integration.support import Login, how_it_ended
from tests.integration.test_slurm_states import UNTIL_TOLD, tell

pytestmark = pytest.mark.cluster

STALE = "shown as last seen"


def test_the_controller_is_dead(alice: Login, cluster: Cluster) -> None:
    """Fault 9: each command says that it shows what was last seen; waiting goes on over it to the end."""
    run = alice.submit({"command": UNTIL_TOLD})
    alice.until_logged(run, "begun")
    running = alice.until_state(run, "Running")
    cluster.kill_controller(run["job_id"])

    shown = alice.hpcrun("show", run["id"], "--json")
    assert STALE in shown.stderr and "slurm" in shown.stderr.lower()
    assert alice.hpcrun("show", run["id"], "--no-refresh", "--json").stdout == shown.stdout
    listed = alice.hpcrun("ls")
    assert STALE in listed.stderr and "Running" in listed.stdout
    assert alice.show(run)["states"] == running["states"]

    waiting = cluster.popen("login", alice.argv("wait", run["id"]))
    gave_up = alice.hpcrun("wait", run["id"], "--timeout", "1s", check=False)
    assert gave_up.returncode == 22 and STALE in gave_up.stderr
    cluster.daemon("slurmctld").start()
    tell(alice, run)
    out, err = waiting.communicate(timeout=180)
    assert waiting.wait() == 0 and "Completed" in out
    assert err.count(STALE) <= 1, "it is said when it begins, and not each time"
    assert how_it_ended(alice.show(run)) == ("Completed", "", 0)
    assert alice.hpcrun("show", run["id"]).stderr == ""


@pytest.mark.slow
def test_the_payload_fails_while_the_controller_is_dead(alice: Login, cluster: Cluster) -> None:
    """Fault 9: that it said so itself is no reason to end it: it may be queued again. Then Slurm says."""
    run = alice.submit({"command": f"{UNTIL_TOLD}; exit 3"})
    alice.until_logged(run, "begun")
    alice.until_state(run, "Running")
    cluster.kill_controller(run["job_id"])
    tell(alice, run)
    alice.until_said(run, "exit code 3")
    assert alice.show(run)["state"] == "Running"
    cluster.daemon("slurmctld").start()
    # What the node had to tell was lost with the controller, which asks all nodes every minute or so.
    (ended,) = alice.wait(run, timeout=400)
    assert how_it_ended(ended) == ("Failed", "BadExit", 3)


@pytest.mark.parametrize("how", ["dead", pytest.param("hung", marks=pytest.mark.slow)])
def test_accounting_is_down(alice: Login, cluster: Cluster, how: str) -> None:
    """Fault 11: the queue and the jobs' own word are enough; that the books are silent is said."""
    alice.quickly_forgotten()
    books = cluster.daemon("slurmdbd")
    if how == "dead":
        books.kill()
    else:
        books.stop()
    good = alice.submit({"command": "true"})
    bad = alice.submit({"command": "exit 3"})
    alice.until_forgotten(good, bad)
    done = alice.hpcrun("wait", good["id"], bad["id"], check=False, timeout=240)
    assert done.returncode == 20 and STALE in done.stderr and "sacct" in done.stderr
    assert how_it_ended(alice.show(good)) == ("Completed", "", 0)
    assert how_it_ended(alice.show(bad)) == ("Failed", "BadExit", 3)

    killed = alice.submit({"command": "echo begun; sleep 600"})
    alice.until_logged(killed, "begun")
    alice.hpcrun("show", killed["id"], timeout=180)
    for process in cluster.processes(alice.show(killed)["nodes"], user="alice"):
        process.signal(signal.SIGKILL)  # neither the payload nor the script can say anything
    alice.until_forgotten(killed)
    still = alice.hpcrun("show", killed["id"], "--json", timeout=180)
    assert STALE in still.stderr and '"state": "Running"' in still.stdout
    books.start()
    (ended,) = alice.wait(killed, timeout=240)
    assert (ended["state"], ended["reason"]) == ("Failed", "Signal")
