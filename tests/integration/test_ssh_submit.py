"""Submitting from a machine outside the cluster, through its real sshd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.ssh_laptop import Laptop, laptop_of

pytestmark = pytest.mark.cluster


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    yield from laptop_of(cluster, tmp_path, monkeypatch)


def test_a_run_from_outside(laptop: Laptop) -> None:
    run = laptop.finish()
    assert run["exit_code"] == 0
    laptop.one_job_each(run)
    assert run["run_dir"] == f"/home/alice/hpc/runs/{run['id']}"
