"""Runs from a machine outside the cluster by fabric: submitted, followed, brought home, cancelled."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.conf import ONE_TIME_CODE_SSHD
from tests.person import Person
from tests.ssh_help import SshdLog, ssh_config
from tests.ssh_laptop import Laptop, laptop_of

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    for made in laptop_of(cluster, tmp_path, monkeypatch):
        made.site(connection={"type": "fabric"})
        made.config(command="echo begun; echo kept >outputs/a")
        yield made


def test_a_run_through_a_jump_host(laptop: Laptop) -> None:
    laptop.cluster.daemon("sshd", "ctl").start()
    laptop.site(connection={"type": "fabric", "jump": "ctl"})
    log = SshdLog(laptop.cluster)
    followed = laptop.hpcrun("submit", "run.yaml", "-t", "far", "--follow")
    assert "begun" in followed.stdout + followed.stderr
    # The jump host and the login node: one connection each, rsync and git included.
    assert log.logins == 2
    (run,) = laptop.runs()
    assert run["state"] == "Completed"
    assert (laptop.project / ".hpcrun/runs" / run["id"] / "code/outputs/a").read_text() == "kept\n"


def test_cancelled_and_brought_home_by_tick(laptop: Laptop) -> None:
    laptop.config(command="echo kept >outputs/a; sleep 300")
    run = laptop.submit()
    outputs = laptop.there(run, "code/outputs/a")
    laptop.cluster.wait_for(outputs.exists, 60, "the run to write")
    laptop.hpcrun("cancel", run["id"])
    laptop.cluster.wait_for(
        lambda: laptop.hpcrun("tick") and laptop.show(run)["state"] == "Canceled", 60, "the end"
    )
    assert (laptop.project / ".hpcrun/runs" / run["id"] / "code/outputs/a").read_text() == "kept\n"


def test_without_an_ssh_program_ssh_is_fabric(laptop: Laptop, tmp_path: Path) -> None:
    """On a PATH that has all but ssh."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("git", "rsync", "sh", "bash", "tar", "env", "uname"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    laptop.env["PATH"] = str(programs)
    laptop.site()
    laptop.hpcrun("submit", "run.yaml", "-t", "far", "--follow")
    (run,) = laptop.runs()
    assert run["state"] == "Completed"


def test_with_a_one_time_code(laptop: Laptop, cluster: Cluster) -> None:
    """Nobody there: refused at once, and nothing done. Somebody there: asked once for all of it."""
    cluster.ask_one_time_code("123456")
    log = SshdLog(cluster, *ONE_TIME_CODE_SSHD)
    laptop.site(ssh_config(cluster, laptop.folder / "ssh"), connection={"type": "fabric", "two_factor": True})
    refused = laptop.refused()
    assert (refused.returncode == 12 and "somebody" in refused.stderr) or "type something" in refused.stderr
    assert log.connections == 0
    argv = laptop.argv("submit", "run.yaml", "-t", "far", "--follow")
    person = Person(argv, cwd=laptop.project, env=laptop.environment())
    try:
        person.answer("(alice@login) Password: ", "123456")
        said = person.output()
        assert person.process.returncode == 0, (said, person.shown)
    finally:
        person.leave()
    assert "begun" in said and person.shown.count("alice@login") == 1
    assert log.logins == log.connections == 1
    outputs = list((laptop.project / ".hpcrun/runs").glob("*/code/outputs/a"))
    assert [file.read_text() for file in outputs] == ["kept\n"]
