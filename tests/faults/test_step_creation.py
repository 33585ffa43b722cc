"""srun cannot make its step, since the controller does not answer: it is tried again, and begins once."""

from __future__ import annotations

import pytest

from tests.cluster.cluster import Cluster
from tests.integration.support import Login, how_it_ended

pytestmark = pytest.mark.cluster

WAITS = 'until [ -e "$HOME/go" ]; do sleep 0.1; done'
AGAIN = "srun has started nothing: again in"


def test_the_controller_is_stopped_as_the_payload_is_to_begin(alice: Login, cluster: Cluster) -> None:
    run = alice.submit(
        {"command": "echo begun >> $HOME/begun; echo payload", "environment": {"setup": WAITS}}
    )
    alice.until_said(run, "attempt 1")
    controller = cluster.daemon("slurmctld")
    controller.stop()
    alice.write("/home/alice/go", "")
    alice.until_said(run, AGAIN)
    controller.cont()
    (ended,) = alice.wait(run)
    said = alice.cat(f"{run['folder']}/system_logs/job.txt")
    assert how_it_ended(ended) == ("Completed", "", 0), said
    assert "srun: error: Unable to" in said, "or there was nothing to be made good"
    assert alice.cat("/home/alice/begun") == "begun\n"
    assert len(ended["attempts"]) == 1
