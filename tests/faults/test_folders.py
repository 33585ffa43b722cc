"""Folders that are taken away between the submission and the start (faults 18, 19)."""

from __future__ import annotations

import pytest

from tests.integration.support import Document, Login
from tests.integration.test_slurm_states import fill_the_cluster

pytestmark = pytest.mark.cluster


def without(alice: Login, folder: str) -> Document:
    """What becomes of a run whose ``folder`` is deleted while its job waits."""
    alice.add_site("scratch", root=f"{alice.home}/scratch")
    blocker = fill_the_cluster(alice)
    run = alice.submit({"command": "echo ran > /home/alice/ran"}, "-t", "scratch")
    alice.until_state(run, "Queued", "Resources")
    alice.cluster.run("login", ["rm", "-r", f"{run['run_dir']}/{folder}"])
    alice.cluster.run("login", ["scancel", blocker], user="bob")
    (ended,) = alice.wait(run)
    return ended


def test_the_log_folder_is_gone(alice: Login) -> None:
    """Fault 18: Slurm's FAILED 0:53 without a log is told in words."""
    ended = without(alice, "system_logs")
    assert (ended["state"], ended["reason"]) == ("Failed", "LaunchFailed")
    assert "before it could begin" in ended["message"] and "signal 53" in ended["message"]
    assert not alice.exists("/home/alice/ran")


@pytest.mark.parametrize("folder", ["code", "../../runs"])
def test_the_working_folder_is_gone(alice: Login, folder: str) -> None:
    """Fault 19: Slurm would run it in /tmp and call it COMPLETED; it does not run at all."""
    gone = without(alice, folder)
    assert (gone["state"], gone["reason"]) == ("Failed", "LaunchFailed")
    assert not alice.exists("/home/alice/ran")
    assert alice.json("explain", gone["id"])["cause"] == "FolderMissing"
