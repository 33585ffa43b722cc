"""Nodes that die (fault 17)."""

from __future__ import annotations

import pytest

from tests.cluster.cluster import Cluster
from tests.faults.conftest import crash
from tests.integration.support import Document, Login, how_it_ended
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
