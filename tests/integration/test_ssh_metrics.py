"""What a run on another machine measures is seen here while it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.ssh_laptop import Laptop, laptop_of

pytestmark = pytest.mark.cluster

TELLS = """\
import os, pathlib, time

folder = pathlib.Path(os.environ["HPCRUN_RUN_DIR"])
line = '{"n": "loss", "v": %s, "s": %d, "t": 1760000000}\\n'
with open(folder / "metrics" / "rank_000.jsonl", "a") as file:
    file.write(line % (4, 0))
    file.flush()
    print("told", flush=True)
    while not (folder / "go").exists():
        time.sleep(0.05)
    file.write(line % (1.5, 1))
"""


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    yield from laptop_of(cluster, tmp_path, monkeypatch)


def test_metrics_come_home_while_the_run_goes_on(laptop: Laptop, cluster: Cluster) -> None:
    (laptop.source / "train.py").write_text(TELLS)
    laptop.config()
    run = laptop.submit()
    log = laptop.there(run, "user_logs/std_log.txt")
    cluster.wait_for(lambda: log.exists() and "told" in log.read_text(), 60, "the first value")

    def told(*options: str) -> list[object]:
        (found,) = laptop.json("metrics", run["id"], "loss", *options)["runs"]
        return [point["value"] for metric in found["metrics"] for point in metric["points"]]

    assert laptop.hpcrun("metrics", run["id"], "--no-refresh").stdout == ""  # nothing was asked, nothing came
    assert told() == [4]
    laptop.there(run, "go").touch()
    laptop.ended(run)
    laptop.hpcrun("sync", run["id"])
    assert told("--no-refresh") == [4, 1.5]
