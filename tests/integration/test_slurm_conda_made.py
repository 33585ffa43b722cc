"""Conda environments that hpcrun makes, on a real cluster: of real packages, from a channel in a folder.

py-rattler makes them where hpcrun runs on the cluster; where it does not, micromamba is played (see
tests/conda_help.py), since none can be had.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import conda_help as conda
from tests.cluster.cluster import Cluster
from tests.integration.support import Document, Login, example_config, how_it_ended
from tests.ssh_laptop import Laptop, laptop_of

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(conda.why_not()), reason=str(conda.why_not())),
]

CHANNEL = "file:///home/alice/channel"
SHOW = """\
import json, os, sys
import greeting
print(json.dumps([sys.prefix, os.environ["CONDA_PREFIX"], greeting.VERSION, os.environ["GREETING"]]))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conda")
    conda.channel(folder)
    return folder / "channel"


def give(cluster: Cluster, built: Path) -> None:
    """The channel, in alice's home."""
    target = cluster.home() / "channel"
    shutil.copytree(built, target)
    cluster.run("login", ["chown", "-R", "alice:", "/home/alice/channel"], user="root")


@pytest.fixture
def alice(login: Login, built: Path) -> Login:
    give(login.cluster, built)
    return login


def environment(*packages: str) -> Document:
    return {"conda": {"channels": [CHANNEL], "python_version": conda.SHORT, "conda_packages": list(packages)}}


def test_one_mpi_and_pytorch_over_two_nodes(alice: Login) -> None:
    """One environment for a single process, for MPI and for PyTorch, each as its example is."""
    alice.project({"show.py": SHOW})
    made = environment("greeting=1.0", "mpi4py", "pytorch")
    single = alice.submit({"script": "show.py", "environment": made})
    mpi = alice.submit({**example_config("mpi4py"), "environment": made}, project=alice.example("mpi4py"))
    torch = alice.submit({**example_config("pytorch"), "environment": made}, project=alice.example("pytorch"))
    runs = single, mpi, torch = alice.wait(single, mpi, torch, timeout=240)
    for run in runs:
        assert how_it_ended(run) == ("Completed", "", 0), alice.read(run, "system_logs/job.txt")

    prefix, activated, version, greeting = json.loads(alice.log(single))
    folder = single["config"]["environment"]
    assert prefix == activated
    assert prefix.startswith(f"{folder['root']}/{folder['name']}-x86_64.")
    assert (version, greeting) == ("1.0", ":hello to the world")
    packages = alice.read(mpi, "system_logs/packages.txt")
    assert f"{CHANNEL}/{conda.PLATFORM}/mpi4py-" in packages
    assert "from 4 processes on ['node" in alice.read(mpi, "outputs/pi.txt")
    assert alice.read(torch, "outputs/summary.txt").startswith("world size 4, loss 0.0")
    links = [path for path in (alice.cluster.home() / ".hpcrun/environments").iterdir() if path.is_symlink()]
    assert len(links) == 1


def test_what_cannot_be_made_is_explained(alice: Login) -> None:
    """By the solver's own words, and pip's; a tool that the site names and does not have."""
    alice.project({"show.py": SHOW})
    alice.add_site("named", conda={"executable": "/opt/no/mamba"})
    hard = {"script": "show.py", "environment": environment("greeting=2.0", "old-friend")}
    assert alice.hpcrun("submit", write(alice, hard), "-t", "virtual", check=False).returncode != 0
    explained = alice.hpcrun("explain", "@-1", check=False).stdout
    assert "old-friend * cannot be installed because there are no viable options" in " ".join(
        explained.split()
    )
    pip = environment("greeting=2.0")
    pip["conda"] |= {"pip_packages": ["nowhere"], "pip_options": ["--no-index"]}
    alice.hpcrun(
        "submit", write(alice, {"script": "show.py", "environment": pip}), "-t", "virtual", check=False
    )
    shown = alice.json("show", "@-1")
    assert (shown["state"], shown["reason"]) == ("Failed", "Environment")
    assert "No matching distribution found for nowhere" in shown["message"]
    gone = alice.hpcrun("submit", write(alice, hard), "-t", "named", check=False).stderr
    assert "there is no program /opt/no/mamba on login" in gone
    assert "conda.executable of site_configs/named.yaml" in gone
    assert [run["job_id"] for run in alice.json("ls")["runs"]] == [None, None, None]


def write(alice: Login, config: Document) -> str:
    return alice.write("/home/alice/project/run.yaml", json.dumps(config))


@pytest.fixture
def laptop(
    cluster: Cluster, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Laptop]:
    give(cluster, built)
    yield from laptop_of(cluster, tmp_path, monkeypatch)


def test_over_ssh_by_what_is_there(laptop: Laptop) -> None:
    """Nothing is, and it is said what is missing; then micromamba is, in a place that no PATH names."""
    (laptop.source / "environment.yml").write_text(
        f"channels: [{CHANNEL}]\ndependencies: [old-friend]\nvariables: {{FROM_FILE: there}}\n"
    )
    show = 'echo "$FROM_FILE $(greet)"'
    laptop.config(command=show, environment={"conda": {"file": "environment.yml"}})
    told = laptop.refused()
    assert "there is no micromamba, mamba or conda on login, and no Python with py-rattler" in told.stderr
    assert "conda.executable of site_configs/far.yaml" in told.stderr
    program = conda.stand_in(laptop.cluster.home() / ".local/bin", "micromamba")
    laptop.cluster.run("login", ["chown", "-R", "alice:", "/home/alice/.local"], user="root")
    assert program.exists()
    run = laptop.submit("--wait")
    assert how_it_ended(run) == ("Completed", "", 0)
    home = laptop.project / ".hpcrun/runs" / run["id"]
    assert (home / "user_logs/std_log.txt").read_text() == "there 1.1\n"
    assert f"{CHANNEL}/noarch/old-friend-1.0-" in (home / "system_logs/packages.txt").read_text()
