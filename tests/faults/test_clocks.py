"""Clocks that differ by minutes (fault 43)."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from tests.cluster.cluster import Cluster
from tests.integration.support import Login, how_it_ended

pytestmark = pytest.mark.cluster


def at(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


@pytest.mark.parametrize("minutes", [-4, 4])
def test_the_login_nodes_clock_is_minutes_off(alice: Login, cluster: Cluster, minutes: int) -> None:
    """Fault 43: the same ends and reasons, in the same time; the difference is measured and recorded."""
    alice.quickly_forgotten()

    def hpcrun(*args: str) -> str:
        argv = ["faketime", "-f", f"{minutes:+d}m", *alice.argv(*args)]
        return cluster.run("login", argv, check=False, timeout=240).stdout

    ids = []
    for command in ("sleep 1", "sleep 1; exit 3"):
        alice.write(f"{alice.home}/project/run.yaml", f"command: {command}\n")
        submitted = hpcrun("submit", f"{alice.home}/project/run.yaml", "-t", "virtual", "--json")
        ids.append(json.loads(submitted)["id"])
    hpcrun("wait", *ids)
    good, bad = (alice.json("show", run_id, "--no-refresh") for run_id in ids)
    assert how_it_ended(good) == ("Completed", "", 0)
    assert how_it_ended(bad) == ("Failed", "BadExit", 3)
    for run in (good, bad):
        assert abs(run["submission"]["clock_skew"] + 60 * minutes) < 30
        assert 0 <= (at(run["ended"]) - at(run["started"])).total_seconds() < 60
