"""Folders that are taken away between the submission and the start (faults 18, 19)."""

from __future__ import annotations

import pytest

from tests.integration.support import Document, Login
from tests.integration.test_slurm_states import fill_the_cluster

pytestmark = pytest.mark.cluster


def without(alice: Login, folder: str, *, instead: bool = False) -> Document:
    """What becomes of a run whose ``folder`` is deleted while its job waits; ``instead``: for a file."""
    alice.add_site("scratch", root=f"{alice.home}/scratch")
    blocker = fill_the_cluster(alice)
    run = alice.submit({"command": "echo ran > /home/alice/ran"}, "-t", "scratch")
    alice.until_state(run, "Queued", "Resources")
    path = f"{run['run_dir']}/{folder}".rstrip("/")
    alice.cluster.run("login", ["rm", "-r", path])
    if instead:
        alice.write(path, "in the way\n")
    alice.cluster.run("login", ["scancel", blocker], user="bob")
    (ended,) = alice.wait(run)
    return ended


def test_the_log_folder_cannot_be(alice: Login) -> None:
    """Fault 18: Slurm's FAILED 0:53 without a log is told in words."""
    ended = without(alice, "system_logs", instead=True)
    assert (ended["state"], ended["reason"]) == ("Failed", "LaunchFailed")
    assert "before it could begin" in ended["message"] and "signal 53" in ended["message"]
    assert not alice.exists("/home/alice/ran")


def test_the_log_folder_is_gone(alice: Login) -> None:
    """Fault 18: Slurm 24.11 makes it anew, an older one fails; nothing in between."""
    ended = without(alice, "system_logs")
    if ended["state"] == "Completed":
        assert alice.exists("/home/alice/ran") and "exit code 0" in alice.read(ended, "system_logs/job.txt")
    else:
        assert (ended["state"], ended["reason"]) == ("Failed", "LaunchFailed")
        assert not alice.exists("/home/alice/ran")


@pytest.mark.parametrize("folder", ["code", ""], ids=["code", "whole"])
def test_the_working_folder_is_gone(alice: Login, folder: str) -> None:
    """Fault 19: Slurm would run it in /tmp and call it COMPLETED; it does not run at all."""
    gone = without(alice, folder)
    assert (gone["state"], gone["reason"]) == ("Failed", "LaunchFailed")
    assert not alice.exists("/home/alice/ran")
    assert alice.json("explain", gone["id"])["cause"] == "FolderMissing"
