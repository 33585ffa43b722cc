"""A secret reaches every process of a run on Slurm, and shows nowhere on the way (faults 35, 36)."""

from __future__ import annotations

import hashlib
import json
import stat
import sys
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.integration.support import Document, Login

pytestmark = pytest.mark.cluster

CANARY = "c4n4ry $(id) 'quoted'"
SHOWN = b"c4n4ry"
DIGEST = hashlib.sha256(CANARY.encode()).hexdigest()
PROJECT = "/home/alice/project"
COMMAND = (
    'printf %s "$TOKEN" | sha256sum; echo "[${MY_TOKEN-}]"; echo x >outputs/mine;'
    " while [ ! -e /home/alice/go ]; do sleep 0.05; done"
)


@pytest.fixture
def alice(cluster: Cluster) -> Login:
    return Login(cluster)


def submitted(alice: Login, *options: str, **config: object) -> Document:
    document = {"experiment": "secret", "command": COMMAND, "secrets": {"TOKEN": "env:MY_TOKEN"}, **config}
    alice.write(f"{PROJECT}/run.yaml", json.dumps(document))
    argv = ["submit", "run.yaml", "-t", "virtual", *options]
    return alice.json(*argv, cwd=PROJECT, env={"MY_TOKEN": CANARY})


def holding(cluster: Cluster) -> list[str]:
    """The files of alice's, and of Slurm's own on every host, that hold the canary."""
    places = [cluster.home(), *(cluster.outside("/var/spool", host) for host in cluster.hosts)]
    found = [
        path for place in places for path in place.rglob("*") if path.is_file() and not path.is_symlink()
    ]
    return [path.name for path in found if SHOWN in read(path)]


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def command_lines() -> bytes:
    return b"".join(read(path) for path in Path("/proc").glob("[0-9]*/cmdline"))


def let_go(alice: Login) -> None:
    alice.write("/home/alice/go", "")


def test_it_reaches_the_run_and_shows_nowhere(alice: Login, cluster: Cluster) -> None:
    run = submitted(
        alice, distributed_job_config={"type": "mpi", "process_count_per_node": 2, "node_count": 2}
    )
    for rank in range(4):
        alice.until_logged(run, DIGEST, rank)
        assert "[]" in alice.log(run, rank), "what it was taken from is not handed on as well"
    assert holding(cluster) == ["secrets.sh"]
    secrets = cluster.outside(run["run_dir"]) / "secrets.sh"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    assert SHOWN not in command_lines()
    for said in (
        alice.slurm("scontrol", "show", "job", "-d", run["job_id"]),
        alice.slurm("scontrol", "write", "batch_script", run["job_id"], "-"),
        alice.slurm("sacct", "-j", run["job_id"], "-P", "-o", "ALL"),
        alice.hpcrun("--debug", "show", run["id"], "--json", cwd=PROJECT).stdout,
    ):
        assert "c4n4ry" not in said
    let_go(alice)
    assert alice.json("wait", run["id"], cwd=PROJECT)["runs"][0]["state"] == "Completed"
    assert holding(cluster) == []


def test_a_requeued_run_has_it_still(alice: Login, cluster: Cluster) -> None:
    # How long a requeued job must wait; the least that Slurm allows instead of two minutes.
    cluster.reconfigure({"AuthInfo": "cred_expire=5"})
    run = submitted(alice)
    alice.until_logged(run, DIGEST)
    alice.slurm("scontrol", "requeue", run["job_id"])
    cluster.wait_for(lambda: alice.log(run).count(DIGEST) == 2, 120, "the second attempt")
    let_go(alice)
    [ended] = alice.json("wait", run["id"], cwd=PROJECT)["runs"]
    assert (ended["state"], ended["attempts"][-1]["number"]) == ("Completed", 2)
    assert holding(cluster) == []


def test_it_goes_when_the_job_cannot_take_it_away_itself(alice: Login, cluster: Cluster) -> None:
    run = submitted(alice)
    alice.until_logged(run, DIGEST)
    alice.hpcrun("cancel", run["id"], cwd=PROJECT)
    assert alice.json("wait", run["id"], cwd=PROJECT, check=False)["runs"][0]["state"] == "Canceled"
    assert holding(cluster) == []


def test_files_are_for_their_owner_alone_whatever_the_umask(alice: Login, cluster: Cluster) -> None:
    """The payload's own files too: job.sh sets the umask."""
    argv = ["bash", "-c", 'umask 0; exec "$@"', "bash"]
    alice.write(f"{PROJECT}/src/train.sh", "echo x >outputs/mine; mkdir outputs/folder\n", mode=0o777)
    document = {
        "experiment": "modes",
        "source_directory": "src",
        "script": "train.sh",
        "compute_target": "virtual",
    }
    rooted = alice.add_site("rooted", root="/scratch/alice/hpcrun")
    cluster.outside("/scratch/alice").mkdir(exist_ok=True)
    cluster.chown(cluster.outside("/scratch/alice"))
    alice.write(f"{PROJECT}/run.yaml", json.dumps(document))
    for target in ("virtual", rooted, "local"):
        words = [sys.executable, "-m", "hpcrun", "submit", "run.yaml", "-t", target, "--wait"]
        cluster.run("login", [*argv, *words], cwd=PROJECT, timeout=120)
    for words in (["ls"], ["history", "verify"], ["tag", "@-1", "a=b"], ["history", "rebuild"]):
        cluster.run("login", [*argv, sys.executable, "-m", "hpcrun", *words], cwd=PROJECT)
    made = [cluster.home() / "project/.hpcrun", cluster.outside("/scratch/alice/hpcrun")]
    made += [cluster.home() / ".local/state/hpcrun"]
    every = [path for top in made for path in (top, *top.rglob("*")) if not path.is_symlink()]
    assert len(every) > 60 and all(top.exists() for top in made)
    assert {str(path) for path in every if stat.S_IMODE(path.stat().st_mode) & 0o077} == set()
