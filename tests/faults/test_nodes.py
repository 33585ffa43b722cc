"""Nodes that die (fault 17)."""

from __future__ import annotations

import pytest

from tests.cluster.cluster import Cluster
from tests.faults.conftest import crash
from tests.integration.support import Document, Login, how_it_ended
from tests.integration.test_slurm_elastic import TRAINS, elastic_config, is_enough
from tests.integration.test_slurm_states import UNTIL_TOLD, tell

pytestmark = pytest.mark.cluster


def begun(alice: Login, *options: str) -> Document:
    """A run that runs; its node is missed after five seconds."""
    alice.cluster.reconfigure({"SlurmdTimeout": "5", "AuthInfo": "cred_expire=5"})
    run = alice.submit({"command": f'echo "attempt $HPCRUN_ATTEMPT"; {UNTIL_TOLD}'}, *options)
    alice.until_logged(run, "begun")
    return alice.until_state(run, "Running")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["machine", "link"])
def test_a_node_dies(alice: Login, cluster: Cluster, how: str) -> None:
    """Fault 17: the reason is the node's, and explain says that nothing is known against the script."""
    run = begun(alice, "--set", "resources.sbatch.no-requeue=true")
    if how == "link":
        cluster.link_down(str(run["nodes"]))
    else:
        crash(cluster, str(run["nodes"]))
    (ended,) = alice.wait(run, timeout=300)
    assert (ended["state"], ended["reason"]) == ("Failed", "NodeFail")
    assert ended["nodes"] == run["nodes"]
    assert alice.json("explain", run["id"])["cause"] == "NodeFail"


@pytest.mark.slow
def test_a_node_dies_and_a_retry_was_asked_for(alice: Login, cluster: Cluster) -> None:
    """Fault 17: with --requeue the run begins anew on another node."""
    run = begun(alice, "--set", "resources.sbatch.requeue=true")
    crash(cluster, str(run["nodes"]))
    cluster.wait_for(lambda: "attempt 2" in alice.log(run), 180, "the second attempt")
    tell(alice, run)
    (ended,) = alice.wait(run)
    assert how_it_ended(ended) == ("Completed", "", 0)
    first, second = ended["attempts"]
    assert first["nodes"] == run["nodes"] != second["nodes"] == ended["nodes"]


@pytest.mark.slow
def test_a_node_dies_under_one_process(alice: Login, cluster: Cluster) -> None:
    """Fault 17: of two nodes the one that died is named, by what is left of the job on the other."""
    # With five seconds Slurm at times misses the living, too, and ends on the other node what would tell.
    cluster.reconfigure({"SlurmdTimeout": "20", "AuthInfo": "cred_expire=5"})
    two = {"type": "pytorch", "node_count": 2, "process_count": 2}
    config = {"command": f'echo "attempt $HPCRUN_ATTEMPT"; {UNTIL_TOLD}', "distributed_job_config": two}
    run = alice.submit(config, "--set", "resources.sbatch.no-requeue=true")
    for rank in (0, 1):
        alice.until_logged(run, "begun", rank)
    nodes = str(alice.until_state(run, "Running")["nodes"])
    last = f"node{nodes[-2]}"
    crash(cluster, last)
    (ended,) = alice.wait(run, timeout=300)
    assert (ended["state"], ended["reason"]) == ("Failed", "NodeFail")
    assert ended["message"] == f"node {last} failed", alice.read(run, "system_logs/job.txt")
    why = alice.json("explain", run["id"])
    assert why["cause"] == "NodeFail" and f"node {last} failed" in why["words"]


@pytest.mark.slow
def test_a_node_dies_under_an_elastic_torchrun(alice: Login, cluster: Cluster) -> None:
    """The others begin again without it, and the run ends well."""
    cluster.reconfigure({"SlurmdTimeout": "20", "AuthInfo": "cred_expire=5"})
    config = elastic_config()
    config["resources"] = {**config["resources"], "cpus_per_task": 3}  # a node each
    alice.project({"train.py": TRAINS})
    run = alice.submit(config, "--set", "resources.sbatch.no-requeue=true")
    for rank in (0, 1):
        alice.until_logged(run, "of 2", rank)
    last = alice.log(run, 1).split()[1]
    crash(cluster, last)
    cluster.wait_for(lambda: "of 1\n" in alice.log(run, 0), 180, "a try of one")
    alice.until_said(run, f"Node failure on {last}")
    assert alice.show(run)["state"] == "Running"
    is_enough(alice, run)
    (ended,) = alice.wait(run, timeout=120)
    assert how_it_ended(ended) == ("Completed", "", 0), alice.read(run, "system_logs/job.txt")
