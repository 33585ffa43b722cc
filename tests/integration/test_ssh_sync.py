"""Bringing outputs and logs home, from a machine outside the cluster, through its real sshd."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_help import on_terminal
from tests.cluster.cluster import Cluster
from tests.engine_help import until
from tests.ssh_help import SshdLog
from tests.ssh_laptop import Document, Laptop, laptop_of
from tests.unit.test_docs_json import check

pytestmark = pytest.mark.cluster

ENDS = ("Finalizing", "Completed", "Failed", "Canceled")


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    yield from laptop_of(cluster, tmp_path, monkeypatch)


def here(laptop: Laptop, run: Document, name: str = "") -> Path:
    """A file of the run's folder in the history."""
    return laptop.project / f".hpcrun/runs/{run['id']}" / name


def ended(laptop: Laptop, command: str, *options: str, **config: object) -> Document:
    """A run of bash source that has ended, and of which nothing has been brought yet."""
    laptop.config(command=command, **config)
    return over(laptop, laptop.submit(*options))


def over(laptop: Laptop, run: Document) -> Document:
    """The run, once it has ended: Finalizing it is too while Slurm still cleans up behind its job."""
    seen = [run]

    def there() -> bool:
        seen[0] = laptop.show(run)
        return bool(seen[0]["outcome"])

    until(there, "its end", seconds=90)
    return seen[0]


def synced(laptop: Laptop, *args: str, code: int = 0) -> Document:
    done = laptop.hpcrun("sync", *args, "--json", check=False)
    assert done.returncode == code, (done.stdout, done.stderr)
    document: Document = json.loads(done.stdout)
    return document


WRITES = "echo model >outputs/model.txt; mkdir -p outputs/deep; echo x >outputs/deep/a.bin; echo told"


def test_a_run_is_in_its_last_state_once_its_files_are_here(laptop: Laptop) -> None:
    run = ended(laptop, WRITES)
    assert run["outcome"] == "Completed" and not here(laptop, run, "outputs/model.txt").exists()
    again = laptop.show(run)
    assert again["state"] == "Finalizing", "looking does not bring anything, and ends nothing"
    done = laptop.hpcrun("sync")
    assert f"{run['id']}: Completed, " in done.stdout and done.stderr == ""
    run = laptop.show(run)
    assert (run["state"], run["sync"]["state"], run["sync"]["left"]) == ("Completed", "final", 0)
    assert here(laptop, run, "outputs/model.txt").read_text() == "model\n"
    assert here(laptop, run, "outputs/deep/a.bin").read_text() == "x\n"
    assert here(laptop, run, "user_logs/std_log.txt").read_text() == "told\n"
    assert [s["state"] for s in run["states"]][-2:] == ["Finalizing", "Completed"]
    assert laptop.hpcrun("sync").stdout == "nothing to bring: all files of all runs are here\n"


@pytest.mark.parametrize(
    ("command", "state"), [("echo a >outputs/a; exit 3", "Failed"), ("sleep 600", "Canceled")]
)
def test_whatever_became_of_it(laptop: Laptop, command: str, state: str) -> None:
    laptop.config(command=command)
    run = laptop.submit()
    if state == "Canceled":
        laptop.until(run, "Running")
        laptop.hpcrun("cancel", run["id"])
    run = over(laptop, run)
    assert run["outcome"] == state
    [found] = synced(laptop, run["id"])["runs"]
    assert (found["state"], found["sync"]["state"]) == (state, "final")


def test_while_it_runs_what_is_there_comes_and_is_not_the_last_word(laptop: Laptop) -> None:
    laptop.config(
        command="echo 1 >outputs/a; echo one >outputs/old; echo begun;"
        " until [ -e /home/alice/go ]; do sleep 0.1; done; echo 2 >outputs/a; rm outputs/old"
    )
    run = laptop.submit()
    laptop.until(run, "Running")
    laptop.cluster.wait_for(lambda: laptop.there(run, "code/outputs/old").exists(), 30, "the first files")
    [found] = synced(laptop, run["id"])["runs"]
    assert (found["state"], found["sync"]["state"]) == ("Running", "provisional")
    assert here(laptop, run, "outputs/a").read_text() == "1\n"
    laptop.cluster.write("/home/alice/go", "")
    over(laptop, run)
    [found] = synced(laptop, run["id"])["runs"]
    assert (found["state"], found["sync"]["state"]) == ("Completed", "final")
    assert here(laptop, run, "outputs/a").read_text() == "2\n", "as long as before, and of the same second"
    assert here(laptop, run, "outputs/old").read_text() == "one\n", "what came home stays"


def test_what_is_not_wanted_stays_there_and_can_be_had(laptop: Laptop) -> None:
    make = "(cd outputs; mkdir c; echo m >m.pt; echo k >c/k.ckpt; head -c 2000000 /dev/zero >big)"
    rules = {"exclude": ["*.ckpt"], "max_file_size": "1M"}
    run = ended(laptop, f"{make}; head -c 3000000 /dev/zero | tr '\\0' a", sync=rules)
    [found] = synced(laptop)["runs"]
    assert (found["state"], found["sync"]["left"]) == ("Completed", 2), here(
        laptop, run, "files.json"
    ).read_text()
    assert here(laptop, run, "outputs/m.pt").exists()
    assert (
        not here(laptop, run, "outputs/big").exists() and not here(laptop, run, "outputs/c/k.ckpt").exists()
    )
    assert here(laptop, run, "user_logs/std_log.txt").stat().st_size == 3000000, "logs come, however long"
    shown = laptop.hpcrun("show", run["id"]).stdout
    assert "2 left on login" in shown
    code = """\
import sys
from hpcrun import Run, Workspace
run = Run.get(Workspace.from_config(), sys.argv[1])
print([n for n in run.get_file_names() if n.startswith("outputs")])
print(run.download_file("outputs/big", "mine").stat().st_size)
print(sorted(p.name for p in run.download_files("outputs", "all", append_prefix=False)))
print(sorted(str(p) for p in run.get_all_logs("logs_here") if "std_log" in str(p)))
"""
    said = laptop.python(code, run["id"])
    assert said.stdout.splitlines() == [
        "['outputs/m.pt', 'outputs/big', 'outputs/c/k.ckpt']",
        "2000000",
        "['big', 'k.ckpt', 'm.pt']",
        "['logs_here/user_logs/std_log.txt']",
    ], said.stderr


def test_download_gets_what_is_asked_for_and_nothing_else(laptop: Laptop) -> None:
    rules = {"include": ["outputs/small*"]}
    run = ended(
        laptop, "for n in 1 2 3; do echo $n >outputs/big$n; echo $n >outputs/small$n; done", sync=rules
    )
    done = laptop.hpcrun("download", run["id"], "outputs/big1")
    assert done.stdout == f"{here(laptop, run, 'outputs/big1')}\n"
    assert sorted(p.name for p in here(laptop, run, "outputs").iterdir()) == ["big1"]
    assert laptop.show(run)["state"] == "Finalizing"
    synced(laptop)
    assert sorted(p.name for p in here(laptop, run, "outputs").iterdir()) == [
        "big1",
        "small1",
        "small2",
        "small3",
    ]
    document = laptop.json("download", run["id"], "*2", "-o", "taken")
    assert [(f["name"], f["path"]) for f in document["files"]] == [
        ("outputs/small2", "taken/outputs/small2"),
        ("outputs/big2", "taken/outputs/big2"),
    ]
    missing = laptop.hpcrun("download", run["id"], "*.pt", check=False)
    assert missing.returncode == 4 and "outputs/big3" in missing.stderr
    laptop.there(run, "code/outputs/big3").unlink()
    lost = laptop.hpcrun("download", run["id"], "outputs/big3", check=False)
    assert lost.returncode == 8 and "outputs/big3 is no longer on login" in lost.stderr


def test_many_runs_are_one_listing_and_one_rsync(laptop: Laptop) -> None:
    laptop.config(command="echo $RANDOM >outputs/a")
    runs = [laptop.submit() for _ in range(4)]
    for run in runs:
        over(laptop, run)
    laptop.hpcrun("sync", runs[0]["id"])
    log = SshdLog(laptop.cluster)
    laptop.hang_up()
    report = synced(laptop)
    assert len(report["runs"]) == 3 and {r["state"] for r in report["runs"]} == {"Completed"}
    assert log.connections == 1
    # One listing and one rsync; refresh has nothing to ask of runs that have ended.
    assert log.count(r"^Starting session: command") == 2, log.text()


def test_all_is_for_its_owner_alone_and_times_and_programs_stay_what_they_are(laptop: Laptop) -> None:
    laptop.umask = 0
    run = ended(
        laptop,
        "umask 0; mkdir outputs/d; echo '#!/bin/sh' >outputs/d/run; chmod 6777 outputs/d/run;"
        " echo >outputs/d/x; chmod 1777 outputs/d; touch -d 2001-02-03T04:05:06.789 outputs/d/x",
    )
    synced(laptop)
    folder = here(laptop, run)
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o700 if path.is_dir() or path.name == "run" else 0o600), (path, oct(mode))
    there = laptop.there(run, "code/outputs/d/x").stat().st_mtime_ns
    assert (folder / "outputs/d/x").stat().st_mtime_ns == there


def test_two_at_once_one_waits(laptop: Laptop) -> None:
    run = ended(laptop, "head -c 30000000 /dev/urandom >outputs/big")
    both = [laptop.start("sync", run["id"]) for _ in range(2)]
    said = [(*process.communicate(timeout=120), process.returncode) for process in both]
    assert [code for _, _, code in said] == [0, 0], said
    assert all("Completed" in out for out, _, _ in said)
    assert laptop.show(run)["sync"]["state"] == "final"
    assert_same(laptop, run)


def assert_same(laptop: Laptop, run: Document) -> None:
    """What is here is what is there, byte for byte."""
    there, home = laptop.there(run, "code/outputs"), here(laptop, run, "code/outputs")
    argv = ["diff", "-r", "--exclude=.*", str(there), str(home)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


def test_what_is_said_for_programs(laptop: Laptop) -> None:
    """As docs/json.md has it: of runs that came home, and of a site whose file is wrong by now."""
    run = ended(laptop, "echo a >outputs/a; ln -s /etc/passwd outputs/l")
    other = laptop.project / "site_configs/other.yaml"
    other.write_text((laptop.project / "site_configs/far.yaml").read_text())
    over(laptop, laptop.json("submit", "run.yaml", "-t", "other"))
    other.write_text("scheduler: {type: lsf}\nroot: 3\n")
    document = synced(laptop, code=3)
    check("sync", document, {**document, "runs": [with_children(laptop, run)]})
    [found], [error] = document["runs"], document["errors"]
    assert (found["id"], error["name"], error["type"]) == (run["id"], "other", "ConfigError")
    assert set(found["sync"]) == {"state", "at", "files", "bytes", "left", "odd"}


def with_children(laptop: Laptop, run: Document) -> Document:
    """The run with one of all that it may have: a note on its snapshot, an attempt of which Slurm told."""
    shown = laptop.show(run)
    shown["snapshot"].setdefault("notes", []).append("note")
    return shown


def test_a_bar_on_a_terminal(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes, of how many, and how fast; elsewhere no word of it."""
    run = ended(laptop, "head -c 200000000 /dev/zero >outputs/big; echo a >outputs/a")
    monkeypatch.chdir(laptop.project)
    shown = on_terminal("sync", columns=100)
    found = re.findall(r"([0-9.]+)/([0-9.]+) MB", shown)
    assert (
        found and max(float(so_far) for so_far, _ in found) > 100 and {all_ for _, all_ in found} == {"200.0"}
    )
    assert re.search(r"[0-9.]+ MB/s", shown) and re.search(r"[45] files", shown)
    assert f"{run['id']}: Completed, " in shown
    assert_same(laptop, run)


def test_ten_thousand_small_files(laptop: Laptop) -> None:
    run = ended(
        laptop,
        "cd outputs; for n in $(seq 100); do mkdir $n; (cd $n; echo a | tee $(seq 100) >/dev/null); done",
    )
    report = synced(laptop)
    assert report["runs"][0]["state"] == "Completed" and report["files"] > 10_000
    assert_same(laptop, run)


def test_without_rsync_files_come_by_tar_and_that_is_said(laptop: Laptop) -> None:
    make = "cd outputs; echo a >a; ln a same; ln -s a link; mkdir ' s'; echo >' s'/$'n\\nl'"
    run = ended(laptop, make)
    laptop.cluster.hide("login", "/usr/bin/rsync")
    done = laptop.hpcrun("sync")
    assert "rsync is missing, or too old, here or on login" in done.stderr and "Completed" in done.stdout
    assert_same(laptop, run)
    assert here(laptop, run, "outputs/link").readlink().name == "a"


def test_without_rsync_here(laptop: Laptop, tmp_path: Path) -> None:
    run = ended(laptop, WRITES)
    path = tmp_path / "bin"
    path.mkdir()
    for program in ("ssh", "git", "sh"):
        (path / program).symlink_to(f"/usr/bin/{program}")
    done = laptop.hpcrun("sync", env={"PATH": str(path)})
    assert "rsync is missing" in done.stderr and "Completed" in done.stdout
    assert_same(laptop, run)


def test_a_folder_that_is_gone_is_said_to_be_and_the_run_ends(laptop: Laptop) -> None:
    run = ended(laptop, WRITES)
    laptop.cluster.run("login", ["rm", "-rf", run["run_dir"]])
    done = laptop.hpcrun("sync")
    assert "Completed" in done.stdout and "its folder is gone from login" in done.stdout
    assert "what was not home yet is lost" in laptop.show(run)["message"]


def test_what_came_home_stays_when_the_folder_there_goes(laptop: Laptop) -> None:
    run = ended(laptop, WRITES)
    synced(laptop)
    before = laptop.show(run)["sync"]
    laptop.cluster.run("login", ["rm", "-rf", run["run_dir"]])
    [found] = synced(laptop, run["id"])["runs"]
    assert found["sync"] == {**before, "gone": True} and found["message"] == ""
    assert here(laptop, run, "outputs/model.txt").exists()


def test_the_root_is_where_the_run_was_sent_not_where_the_site_has_it_now(laptop: Laptop) -> None:
    run = ended(laptop, WRITES)
    laptop.site(root="$HOME/elsewhere")
    laptop.cluster.run("login", ["mkdir", "-p", "/home/alice/elsewhere/runs"])
    [found] = synced(laptop, run["id"])["runs"]
    assert (found["state"], found["sync"].get("gone")) == ("Completed", None)
    assert here(laptop, run, "outputs/model.txt").exists()


def test_a_file_that_may_not_be_read_stays_there(laptop: Laptop) -> None:
    run = ended(
        laptop, "echo a >outputs/a; echo b >outputs/b; chmod 0 outputs/b; mkdir outputs/c; chmod 0 outputs/c"
    )
    [found] = synced(laptop)["runs"]
    assert (found["state"], found["sync"]["left"]) == ("Completed", 1)
    refused = laptop.hpcrun("download", run["id"], "outputs/b", check=False)
    assert refused.returncode == 8 and "Permission denied" in refused.stderr
