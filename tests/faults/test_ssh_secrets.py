"""Faults 33 to 36 by SSH: secrets, the modes of files, noisy logins, hostile names."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.ssh_laptop import Laptop, laptop_of

pytestmark = pytest.mark.cluster

CANARY = "c4n4ry $(id) 'quoted'"
SHOWN = b"c4n4ry"
DIGEST = hashlib.sha256(CANARY.encode()).hexdigest()
COMMAND = (
    'printf %s "$TOKEN" | sha256sum; printf %s "$FILED" | sha256sum;'
    " while [ ! -e /home/alice/go ]; do sleep 0.05; done"
)


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    yield from laptop_of(cluster, tmp_path, monkeypatch)


class Watcher(threading.Thread):
    """Reads all command lines of this machine, the cluster's hosts among them, as fast as it can."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            for name in os.listdir("/proc"):  # noqa: PTH208 - fast
                if name.isdigit():
                    try:
                        self.seen.add(Path("/proc", name, "cmdline").read_bytes())
                    except OSError:
                        pass


def holding(*places: Path) -> list[str]:
    """The files that hold the canary."""
    files = [
        path for place in places for path in place.rglob("*") if path.is_file() and not path.is_symlink()
    ]
    return sorted(path.name for path in files if SHOWN in path.read_bytes())


def test_secrets_reach_the_run_and_show_nowhere(laptop: Laptop, cluster: Cluster) -> None:
    secret = laptop.folder / "secret"
    secret.touch(0o600)
    secret.write_text(CANARY)
    laptop.config(command=COMMAND, secrets={"TOKEN": "env:MY_TOKEN", "FILED": f"file:{secret}"})
    watcher = Watcher()
    watcher.start()
    done = laptop.hpcrun(
        "--debug", "submit", "run.yaml", "-t", "far", "--json", env={"MY_TOKEN": CANARY}, check=False
    )
    assert done.returncode == 0, done.stderr
    [run] = laptop.runs()
    watcher.over.set()
    watcher.join(20)
    assert len(watcher.seen) > 10 and not any(SHOWN in line for line in watcher.seen)
    assert "c4n4ry" not in done.stdout + done.stderr
    log = laptop.there(run, "user_logs/std_log.txt")
    cluster.wait_for(lambda: log.exists() and log.read_text().count(DIGEST) == 2, 30, "the secrets to arrive")
    there = [cluster.home(), *(cluster.outside("/var/spool", host) for host in cluster.hosts)]
    assert holding(*there) == ["secrets.sh"]
    assert stat.S_IMODE(laptop.there(run, "secrets.sh").stat().st_mode) == 0o600
    assert holding(laptop.project, laptop.runtime, Path(os.environ["HOME"])) == []
    said = [
        laptop.slurm("scontrol", "show", "job", "-d", run["job_id"]),
        laptop.slurm("scontrol", "write", "batch_script", run["job_id"], "-"),
        laptop.hpcrun("--debug", "show", run["id"], "--json").stdout,
    ]
    assert not any("c4n4ry" in text for text in said)
    cluster.write("/home/alice/go", "")
    laptop.ended(run)
    assert holding(*there) == []


def test_secrets_of_a_canceled_run_go(laptop: Laptop, cluster: Cluster) -> None:
    laptop.config(command=COMMAND, secrets={"TOKEN": "env:MY_TOKEN"})
    run = laptop.submit(env={"MY_TOKEN": CANARY})
    laptop.until(run, "Running")
    laptop.hpcrun("cancel", run["id"])
    laptop.ended(run)
    cluster.wait_for(lambda: not laptop.there(run, "secrets.sh").exists(), 20, "the secrets to go")


def test_files_are_for_their_owner_alone(laptop: Laptop, cluster: Cluster) -> None:
    """Whatever the umask, on both machines; with git there, and without."""
    cluster.write("/home/alice/.bashrc", "umask 0\n")
    cluster.write("/home/alice/.profile", "umask 0\n")
    laptop.umask = 0
    laptop.config(command="echo x >outputs/mine; mkdir logs/folder")
    laptop.finish()
    cluster.hide("login", "/usr/bin/git")
    laptop.finish()
    made = [laptop.root(), laptop.project / ".hpcrun", laptop.runtime]
    every = [path for top in made for path in (top, *top.rglob("*")) if not path.is_symlink()]
    assert len(every) > 60
    assert {str(path) for path in every if stat.S_IMODE(path.stat().st_mode) & 0o077} == set()


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_a_noisy_login(laptop: Laptop, cluster: Cluster, shell: str) -> None:
    """Fault 33: words on both streams before anything else, binary ones among them."""
    noise = "printf 'Welcome!\\nroot /somewhere\\n94\\n\\377\\000'; echo oh dear >&2\n"
    cluster.write("/home/alice/.bashrc", noise)
    cluster.write("/home/alice/.profile", noise)
    laptop.site(connection={"login_shell": shell == "dash"})
    run = laptop.finish()
    assert run["run_dir"].startswith("/home/alice/hpc/")
    laptop.one_job_each(run)


def test_hostile_names(laptop: Laptop) -> None:
    """Fault 34: in paths here, in the root there, in the source's files; nothing is carried out."""
    root = '$HOME/it\'s "a" `touch canary` $(touch canary) %j & ünï'
    laptop.site(root=root)
    (laptop.source / "-rf $(touch canary)\n").write_text("x")
    (laptop.source / "' ; touch canary #").symlink_to("$(touch canary)")
    laptop.config(command="ls -1b; cat -- -rf*")
    run = laptop.finish()
    assert run["exit_code"] == 0, laptop.there(run, "system_logs/job.txt").read_text()
    assert run["run_dir"] == f"/home/alice/{root[6:]}/runs/{run['id']}"
    found = subprocess.run(
        ["find", str(laptop.cluster.home()), "-name", "canary"], capture_output=True, timeout=20
    )
    assert found.stdout == b""
    assert laptop.there(run, "user_logs/std_log.txt").read_text().endswith("x")
