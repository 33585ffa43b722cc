"""Fault 28 and its like by SSH: full disks, wrong roots, sites where git or more is missing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.snapshot_help import contents
from tests.ssh_laptop import Laptop, laptop_of

pytestmark = pytest.mark.cluster


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    yield from laptop_of(cluster, tmp_path, monkeypatch)


@pytest.fixture(params=["git", "rsync"])
def either(request: pytest.FixtureRequest, laptop: Laptop, cluster: Cluster) -> Laptop:
    """A site with git, and one without."""
    if request.param == "rsync":
        cluster.hide("login", "/usr/bin/git")
    return laptop


def nothing_submitted(laptop: Laptop) -> None:
    assert [run["job_id"] for run in laptop.runs() if run["job_id"]] == []
    assert laptop.starts() == []


def test_the_disk_is_full_there(either: Laptop, cluster: Cluster) -> None:
    """Nothing half gets a name, nothing is submitted, and with some space there is a run."""
    laptop = either
    small = cluster.outside("/small")
    (small / "hpc").mkdir()
    cluster.chown(small / "hpc")
    laptop.site(root="/small/hpc")
    (laptop.source / "data").write_bytes(os.urandom(1_000_000))
    ballast = small / "ballast"
    cluster.run("login", ["sh", "-c", "dd if=/dev/zero of=/small/ballast bs=64k || :"], user="root")
    full = ballast.stat().st_size
    for left in (0, 20_000, 500_000, 1_500_000):
        os.truncate(ballast, full - left)
        done = laptop.refused()
        assert "space" in done.stderr.lower(), (left, done.stderr)
        assert done.returncode in (3, 6, 8), (left, done.returncode, done.stderr)
        assert not list((small / "hpc").glob("runs/*/job.sh"))
        assert not list((small / "hpc").glob("runs/*/code"))
    nothing_submitted(laptop)
    ballast.unlink()
    run = laptop.finish()
    assert run["exit_code"] == 0
    code = contents(cluster.outside(run["run_dir"]) / "code")
    assert {name: value for name, value in code.items() if name in (b"data", b"train.py")} == contents(
        laptop.source
    )


def test_the_disk_is_full_here(laptop: Laptop) -> None:
    """A clear error, and a history that is intact."""
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", str(laptop.project / ".hpcrun")],
        check=True,
    )
    try:
        laptop.finish()
        (laptop.source / "data").write_bytes(os.urandom(6_000_000))
        done = laptop.refused()
        assert "space" in done.stderr.lower(), done.stderr
        remount = ["mount", "-o", "remount,size=40m", str(laptop.project / ".hpcrun")]
        subprocess.run(remount, check=True, timeout=20)
        assert len(laptop.runs()) >= 1
        laptop.finish()
        laptop.hpcrun("history", "verify")
    finally:
        subprocess.run(["umount", "-l", str(laptop.project / ".hpcrun")], check=True, timeout=20)


def test_a_root_that_is_not_ones_own(laptop: Laptop, cluster: Cluster) -> None:
    cluster.run("login", ["mkdir", "-m", "755", "/scratch/theirs"], user="root")
    laptop.site(root="/scratch/theirs")
    done = laptop.refused()
    assert "cannot make /scratch/theirs/runs" in done.stderr
    assert "Permission denied" in done.stderr
    nothing_submitted(laptop)


def test_a_variable_that_only_a_login_sets(laptop: Laptop, cluster: Cluster) -> None:
    cluster.run("login", ["install", "-d", "-o", "alice", "/scratch/al ice"], user="root")
    cluster.write("/home/alice/.bash_profile", "export SCRATCH='/scratch/al ice'\n")
    laptop.site(root="$SCRATCH/hpc")
    done = laptop.refused()
    assert done.returncode == 3
    assert "SCRATCH is not set" in done.stderr and "login_shell: true" in done.stderr
    assert laptop.runs() == []
    laptop.site(root="$SCRATCH/hpc", connection={"login_shell": True})
    run = laptop.finish()
    assert run["run_dir"] == f"/scratch/al ice/hpc/runs/{run['id']}"
    laptop.one_job_each(run)


def test_a_root_that_moved(laptop: Laptop, cluster: Cluster) -> None:
    """The script names its folder, so nothing is put where it would not be found."""
    cluster.write("/home/alice/.bash_profile", "export SCRATCH=/home/alice/old\n")
    laptop.site(root="$SCRATCH/hpc", connection={"login_shell": True})
    first = laptop.finish()
    cluster.write("/home/alice/.bash_profile", "export SCRATCH=/home/alice/new\n")
    done = laptop.refused()
    assert "/home/alice/old/hpc, and is now /home/alice/new/hpc" in done.stderr
    assert laptop.finish()["run_dir"].startswith("/home/alice/new/hpc/runs/")
    assert laptop.show(first)["exit_code"] == 0


def test_neither_git_nor_rsync(laptop: Laptop, cluster: Cluster) -> None:
    cluster.hide("login", "/usr/bin/git", "/usr/bin/rsync")
    done = laptop.refused()
    assert "there is neither git nor rsync on login" in done.stderr
    nothing_submitted(laptop)


def test_runs_without_git_share_one_tree(laptop: Laptop, cluster: Cluster) -> None:
    """What one run does to its code no other sees."""
    cluster.hide("login", "/usr/bin/git")
    (laptop.source / "mine.txt").write_text("as it was")
    laptop.config(command="cat mine.txt; echo changed >mine.txt")
    processes = [laptop.start("submit", "run.yaml", "-t", "far", "--json") for _ in range(3)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, (out, err)
    runs = [*laptop.runs(), laptop.submit(), laptop.submit()]
    for run in runs:
        laptop.ended(run)
        assert laptop.there(run, "user_logs/std_log.txt").read_text() == "as it was"
    trees = [path for path in laptop.root("trees").iterdir() if path.is_dir()]
    assert len(trees) == 1 and (trees[0] / "mine.txt").read_text() == "as it was"


def test_a_transfer_without_git_is_cut_and_continued(laptop: Laptop, cluster: Cluster) -> None:
    cluster.hide("login", "/usr/bin/git")
    laptop.finish()
    with laptop.by_relay() as relay:
        (laptop.source / "data").write_bytes(os.urandom(500_000))
        relay.cut_up, relay.cuts = 300_000, 1
        run = laptop.finish()
        assert relay.connections > 1
    assert run["exit_code"] == 0
    assert laptop.there(run, "code/data").read_bytes() == (laptop.source / "data").read_bytes()
    laptop.one_job_each(run)


def test_ten_thousand_files(laptop: Laptop) -> None:
    for number in range(10_000):
        path = laptop.source / f"{number // 1000}" / f"file-{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"%d\r\n" % number)
    run = laptop.finish()
    code = {
        n: v for n, v in contents(laptop.there(run, "code")).items() if not n.startswith((b"out", b"log"))
    }
    assert code == contents(laptop.source)
