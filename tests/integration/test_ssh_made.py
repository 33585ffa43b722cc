"""Environments that hpcrun makes on a cluster that is reached by SSH."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.integration.support import SYSTEM_PYTHON, Document
from tests.integration.test_ssh_costs import commands
from tests.ssh_help import SshdLog
from tests.ssh_laptop import Laptop, laptop_of
from tests.wheel_help import wheel

pytestmark = pytest.mark.cluster

OPTIONS = ["--no-index", "--find-links=/home/alice/wheels"]
SETUP = 'export PATH="/home/alice/bin:$PATH"\n[ -z "${HPCRUN_ENV-}" ] || echo made >>/home/alice/made\n'
UNTIL_TOLD = SETUP + 'until [ -z "${HPCRUN_ENV-}" ] || [ -e /home/alice/go ]; do sleep 0.2; done'


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    """Its site has uv, and wheels; the run's script says where it found the package."""
    for each in laptop_of(cluster, tmp_path, monkeypatch):
        wheel(cluster.home() / "wheels", "tinypkg", "1.0", "WORD = 'one'\n")
        cluster.run("login", ["mkdir", "-p", "/home/alice/bin"])
        cluster.run("login", ["ln", "-sf", f"{sys.prefix}/bin/uv", "/home/alice/bin/uv"])
        (each.source / "train.py").write_text("import tinypkg\nprint(tinypkg.WORD, tinypkg.__file__)\n")
        yield each


def wants(laptop: Laptop, *packages: str, setup: str = SETUP) -> None:
    """Write run.yaml with a virtual environment of these packages."""
    venv = {"packages": list(packages), "pip_options": OPTIONS, "python": SYSTEM_PYTHON}
    laptop.config(environment={"venv": venv, "setup": setup})


def made(cluster: Cluster) -> int:
    path = cluster.home() / "made"
    return len(path.read_text().split()) if path.exists() else 0


def waited(laptop: Laptop, run: Document) -> Document:
    """The run at its end, with all that comes home."""
    [ended] = laptop.json("wait", run["id"], check=False)["runs"]
    assert isinstance(ended, dict)
    return ended


def test_it_is_made_there_and_used(laptop: Laptop, cluster: Cluster) -> None:
    """What is in it comes home; where it is known to be there, a submission costs what it costs without."""
    log = SshdLog(cluster)
    wants(laptop, "tinypkg")
    run = waited(laptop, laptop.submit())
    assert run["state"] == "Completed", run
    assert [entry["state"] for entry in run["states"]][:3] == ["NotStarted", "Preparing", "Queued"]
    folder = Path(run["folder"])
    environment = run["config"]["environment"]
    word, where = (folder / "user_logs/std_log.txt").read_text().split()
    assert word == "one" and where.startswith(f"{environment['root']}/{environment['name']}-")
    assert (folder / "system_logs/packages.txt").read_text() == "tinypkg==1.0\n"
    assert "hpcrun: made in" in (folder / "system_logs/environment.txt").read_text()
    before = commands(log)
    laptop.submit()
    assert commands(log) == before + 2
    assert made(cluster) == 1


def test_a_build_that_fails_there(laptop: Laptop) -> None:
    """Its words and its log come home; no job is submitted."""
    wants(laptop, "tinypkg==9")
    done = laptop.refused()
    assert "there is no version of tinypkg==9" in done.stderr
    [row] = laptop.runs()
    run = laptop.show(row)
    assert (run["state"], run["reason"], run["job_id"]) == ("Failed", "Environment", None)
    assert "unsatisfiable" in (Path(run["folder"]) / "system_logs/environment.txt").read_text()
    assert run["id"] not in dict(laptop.jobs())


def test_the_laptop_is_gone_while_it_is_made(laptop: Laptop, cluster: Cluster) -> None:
    """The build goes on; the run is submitted, once, when the laptop is back."""
    wants(laptop, "tinypkg", setup=UNTIL_TOLD)
    submitting = laptop.start("submit", "run.yaml", "-t", "far", "--json")
    cluster.wait_for(lambda: made(cluster) == 1, 60, "the builder to begin")
    submitting.send_signal(signal.SIGKILL)
    submitting.communicate(timeout=30)
    laptop.hang_up()
    [row] = laptop.runs()
    assert row["state"] == "Preparing"
    (cluster.home() / "go").write_text("")
    environments = cluster.outside(row["run_dir"]).parent.parent / "environments"
    cluster.wait_for(lambda: list(environments.glob("*/environment.json")), 60, "the environment")
    run = waited(laptop, row)
    assert run["state"] == "Completed"
    assert [job for name, job in laptop.jobs() if name == run["id"]] == [run["job_id"]]
    assert made(cluster) == 1


def test_a_job_makes_it_there(laptop: Laptop, cluster: Cluster) -> None:
    """The run waits for it in the queue, and is Preparing; that it failed is told with its words."""
    laptop.site(environments={"build": "job", "partition": "short"})
    wants(laptop, "tinypkg", setup=UNTIL_TOLD)
    run = laptop.submit()
    assert run["state"] == "Preparing"
    (cluster.home() / "go").write_text("")
    assert waited(laptop, run)["state"] == "Completed"
    wants(laptop, "tinypkg==9")
    bad = waited(laptop, laptop.submit())
    assert (bad["state"], bad["reason"]) == ("Failed", "Environment"), json.dumps(bad, indent=1)
    assert "tinypkg==9" in bad["message"]
