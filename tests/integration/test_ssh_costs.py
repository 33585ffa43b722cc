"""What a submission by SSH costs: connections, remote commands, bytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import hpcrun
from hpcrun.places import lib
from tests.cluster.cluster import Cluster
from tests.ssh_help import SshdLog, ssh_config, through
from tests.ssh_laptop import Laptop, laptop_of

pytestmark = pytest.mark.cluster


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    yield from laptop_of(cluster, tmp_path, monkeypatch)


def commands(log: SshdLog) -> int:
    """How many commands sshd has started for anybody."""
    return log.count(r"^Starting session: (command|subsystem|shell|forced)")


def test_connections_and_commands(laptop: Laptop, cluster: Cluster) -> None:
    """By sshd's own count: one connection and four commands at first, and two from then on."""
    log = SshdLog(cluster)
    laptop.submit()
    assert (log.connections, log.logins, commands(log)) == (1, 1, 4)
    laptop.submit()
    assert (log.connections, commands(log)) == (1, 6)
    (laptop.source / "train.py").write_text("print(2)\n")
    laptop.submit()
    assert (log.connections, commands(log)) == (1, 8)


def test_no_code_travels_twice(laptop: Laptop) -> None:
    """A known snapshot costs what the question costs, and one with one change hardly more; also where the job
    is to find hpcrun's modules, which the site keeps."""
    (laptop.source / "data").write_bytes(os.urandom(300_000))
    (laptop.source / "train.py").write_text("from hpcrun import Run\nRun.get_context().log('x', 1)\n")
    with laptop.by_relay() as relay:
        laptop.submit()
        seen = [relay.bytes_up]
        laptop.submit()
        seen.append(relay.bytes_up)
        (laptop.source / "train.py").write_text("from hpcrun import Run\nRun.get_context().log('x', 2)\n")
        run = laptop.submit("--wait")
        seen.append(relay.bytes_up)
    assert run["state"] == "Completed"
    assert json.loads((laptop.project / ".hpcrun/runs" / run["id"] / "metrics/rank_000.jsonl").read_text())
    assert seen[0] > 300_000
    assert seen[1] - seen[0] < 30_000
    assert seen[2] - seen[1] < 45_000


def test_a_first_submission_is_no_more_than_rsync(laptop: Laptop, cluster: Cluster) -> None:
    """Bytes both ways, connection included, for a source such as this package's own; but for the modules that
    a site is given once, which rsync does not bring."""
    shutil.rmtree(laptop.source)
    shutil.copytree(Path(hpcrun.__file__).parent, laptop.source, ignore=shutil.ignore_patterns("__pycache__"))
    (laptop.source / "train.py").write_text("print(1)\n")
    with laptop.by_relay() as relay:
        laptop.submit()
        ours = relay.bytes_up + relay.bytes_down
    with cluster.relay() as relay:
        config = ssh_config(cluster, laptop.folder / "ssh", **through(relay, cluster))
        argv = ["rsync", "-az", "-e", f"ssh -F {config}", f"{laptop.source}/", "login:rsynced/"]
        subprocess.run(argv, check=True, timeout=60)
        theirs = relay.bytes_up + relay.bytes_down
    assert ours - len(lib.packed()[1]) <= theirs
