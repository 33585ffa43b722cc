"""Bringing files home through broken connections, full disks and hostile trees."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hpcrun.names import PARTIAL
from tests.cluster.cluster import Cluster
from tests.engine_help import until
from tests.integration.test_ssh_sync import assert_same, ended, here, over, synced
from tests.ssh_laptop import Document, Laptop, laptop_of

pytestmark = pytest.mark.cluster

SIZE = 50_000_000
BIG = f"head -c {SIZE} /dev/urandom >outputs/big; echo s >outputs/small"


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    yield from laptop_of(cluster, tmp_path, monkeypatch)


def partial(laptop: Laptop, run: Document) -> Path:
    return here(laptop, run, f"code/outputs/{PARTIAL}/big")


def not_home(laptop: Laptop, run: Document) -> None:
    """Nothing half stands under its name, and nobody says that it is here."""
    assert not here(laptop, run, "outputs/big").exists()
    shown = laptop.show(run)
    assert (shown["state"], shown["sync"]) == ("Finalizing", None)


def test_a_download_that_is_cut_goes_on_where_it_was(laptop: Laptop) -> None:
    """Fault 26."""
    run = ended(laptop, BIG)
    had = 0
    for cut in (2_000_000, 15_000_000, 30_000_000):
        with laptop.by_relay(cut_down=cut) as relay:
            done = laptop.hpcrun("sync", check=False)
            assert done.returncode == 11 and "the next hpcrun sync goes on" in done.stderr, done
            assert relay.bytes_down < cut + 1_000_000
        laptop.site()
        not_home(laptop, run)
        has = partial(laptop, run).stat().st_size
        assert has > had, "each try adds to what there is"
        had = has
    assert had > 30_000_000
    with laptop.by_relay() as relay:
        assert synced(laptop)["runs"][0]["state"] == "Completed"
        assert relay.bytes_down < SIZE - had + 3_000_000, "the rest, and what it takes to know the beginning"
    assert_same(laptop, run)
    assert not partial(laptop, run).parent.exists()


def rsyncs(laptop: Laptop) -> list[int]:
    """This test's rsync processes, on this machine."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            argv = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if argv[0] == b"rsync" and any(os.fsencode(laptop.project) in word for word in argv):
            found.append(int(folder.name))
    return found


def kill_all(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def come(laptop: Laptop, run: Document) -> int:
    """How many bytes of the big file have come, under whatever name."""
    folder = here(laptop, run, "code/outputs")
    return max((p.stat().st_size for p in folder.rglob("*big*") if p.is_file()), default=0)


@contextmanager
def under_way(laptop: Laptop, run: Document) -> Iterator[subprocess.Popen[str]]:
    """A sync in the middle of a large file."""
    with laptop.by_relay(latency=0.004):
        with laptop.start("sync") as process:
            until(lambda: come(laptop, run) > SIZE // 5, "the first bytes", seconds=60)
            try:
                yield process
            finally:
                process.kill()
        until(lambda: not rsyncs(laptop), "the end of rsync")
    laptop.site()


def goes_on(laptop: Laptop, run: Document) -> None:
    not_home(laptop, run)
    with laptop.by_relay() as relay:
        assert synced(laptop)["runs"][0]["state"] == "Completed"
        assert relay.bytes_down < 0.9 * SIZE
    assert_same(laptop, run)
    assert sorted(p.name for p in here(laptop, run, "code/outputs").iterdir()) == ["big", "small"]


def test_rsync_is_killed(laptop: Laptop) -> None:
    run = ended(laptop, BIG)
    with under_way(laptop, run) as process:
        kill_all(rsyncs(laptop))
        _, said = process.communicate(timeout=30)
        assert process.returncode in (8, 11) and "the next hpcrun sync goes on" in said
    goes_on(laptop, run)


def test_hpcrun_is_killed(laptop: Laptop) -> None:
    """Its rsync knows nothing of that, and goes on beside the next one: no harm is done."""
    run = ended(laptop, BIG)
    with under_way(laptop, run) as process:
        process.kill()
        process.wait(10)
        assert rsyncs(laptop)
        laptop.site()
        assert synced(laptop)["runs"][0]["state"] == "Completed"
    assert_same(laptop, run)
    assert {p.name for p in here(laptop, run, "code/outputs").iterdir()} - {PARTIAL} == {"big", "small"}


def test_ctrl_c(laptop: Laptop) -> None:
    run = ended(laptop, BIG)
    with under_way(laptop, run) as process:
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=30)
        assert (process.returncode, out) == (130, ""), said
        assert said == (
            "hpcrun: stopped; what came is kept, and all else is where it was\n  go on: hpcrun sync\n"
        )
        assert rsyncs(laptop) == []
    goes_on(laptop, run)


def test_a_file_that_is_written_meanwhile(laptop: Laptop) -> None:
    """Fault 27."""
    laptop.config(
        command="cd outputs; n=0; until [ -e /home/alice/go ]; do n=$((n + 1));"
        " echo line $n | tee -a log >last; mkdir -p d$((n % 7)); echo $n >d$((n % 7))/x;"
        " rm -rf d$(((n + 3) % 7)); done"
    )
    run = laptop.submit()
    laptop.until(run, "Running")
    laptop.cluster.wait_for(lambda: laptop.there(run, "code/outputs/d3").exists(), 30, "the writer")
    for _ in range(5):
        [found] = synced(laptop, run["id"])["runs"]
        assert (found["state"], found["sync"]["state"]) == ("Running", "provisional")
    laptop.cluster.write("/home/alice/go", "")
    over(laptop, run)
    [found] = synced(laptop, run["id"])["runs"]
    assert (found["state"], found["sync"]["state"]) == ("Completed", "final")
    for name in ("log", "last"):
        there = laptop.there(run, f"code/outputs/{name}")
        assert here(laptop, run, f"outputs/{name}").read_bytes() == there.read_bytes()


def test_no_room_here(laptop: Laptop) -> None:
    """Fault 28: and once there is, it goes on."""
    memory = laptop.project / ".hpcrun"
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "none", str(memory)]
    subprocess.run(mount, check=True, timeout=20)
    try:
        run = ended(laptop, BIG)
        done = laptop.hpcrun("sync", check=False)
        assert done.returncode == 8 and "no room for the files from login" in done.stderr, done
        assert "Make room" in done.stderr
        not_home(laptop, run)
        assert laptop.hpcrun("history", "verify").returncode == 0
        subprocess.run(["mount", "-o", "remount,size=200m", str(memory)], check=True, timeout=20)
        assert synced(laptop)["runs"][0]["state"] == "Completed"
        assert_same(laptop, run)
    finally:
        subprocess.run(["umount", str(memory)], check=True, timeout=20)


HOSTILE = r"""
echo fine >outputs/fine
cd outputs
ln -s /etc/passwd absolute
ln -s ../../../../../../../etc/passwd climbing
ln -s ../../../OTHER/run.json theirs
ln -s ../../run.json record
ln -s ../../../OTHER other
ln -s fine good
ln -s nothing dangling
ln -s d/../../../x updown
mkfifo pipe
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")' || true
mkdir -- ' ' '..x' '...' .hidden '-rf' $'new\nline' '*' "it's"
echo 1 >' /x'
echo 2 >'..x/--delete'; echo 3 >'.../$(touch owned)'; echo 4 >.hidden/.x; echo 5 >-rf/-e
echo 6 >$'new\nline/a\tb\\'; echo 7 >'*/?'; echo 8 >"it's/\"q\""; echo 9 >$'\xff\xfe'
mkdir .hpcrun-partial; echo mine >.hpcrun-partial/fine; mkdir d; echo file >d/.hpcrun-partial
cd ../..
rm -rf user_logs/*; mkfifo user_logs/std_log.txt.pipe
ln -s ../../OTHER/system_logs metrics/linked
mv metrics metrics2; ln -s /etc metrics
"""


def test_a_hostile_tree(laptop: Laptop) -> None:
    """Fault 37: nothing outside of the run's folder is read or written, and the run comes to its end."""
    other = ended(laptop, "echo other >outputs/o")
    synced(laptop)
    record = here(laptop, other, "run.json").read_bytes()
    run = ended(laptop, HOSTILE.replace("OTHER", other["id"]))
    [found] = synced(laptop)["runs"]
    assert (found["state"], found["sync"]["state"]) == ("Completed", "final")
    assert found["sync"]["odd"] >= 7
    folder = here(laptop, run, "code/outputs")
    names = {os.fsencode(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}
    assert names == {
        *(b"fine", b"good", b"dangling", b" /x", b"..x/--delete", b".../$(touch owned)", b".hidden/.x"),
        *(b"-rf/-e", b"new\nline/a\tb\\", b"*/?", b'it\'s/"q"', b"\xff\xfe"),
    }, "a file of the reserved name, pipes, sockets and links out stay where they are"
    assert (folder / "good").read_text() == "fine\n"
    inside = here(laptop, run).resolve()
    for path in here(laptop, run).rglob("*"):
        assert path.resolve().is_relative_to(inside), path
    assert here(laptop, other, "run.json").read_bytes() == record
    assert "good" in laptop.hpcrun("show", run["id"]).stdout


def test_the_jobs_own_words_are_pipes_and_links(laptop: Laptop) -> None:
    """The run still ends: Slurm knows how."""
    run = ended(
        laptop,
        "echo x >outputs/x; cd ..; rm -rf user_logs; ln -s /home/alice user_logs;"
        " ln -s /etc/passwd system_logs/p; rm -f status.json; mkfifo status.json;"
        " rm -f system_logs/job.txt; mkfifo system_logs/job.txt;"
        " rm -f system_logs/attempts.jsonl; ln -s /home/alice/run.yaml system_logs/attempts.jsonl",
    )
    [found] = synced(laptop)["runs"]
    assert found["state"] in ("Completed", "Failed") and found["sync"]["state"] == "final"
    assert here(laptop, run, "outputs/x").exists()
    assert not here(laptop, run, "user_logs").is_symlink()


def test_what_was_a_folder_is_a_link_and_the_other_way_round(laptop: Laptop) -> None:
    laptop.config(
        command="cd outputs; mkdir a b keep; echo 1 >a/f; echo 2 >keep/f; ln -s keep l;"
        " ln -s /etc b/o; echo 3 >b/f; until [ -e /home/alice/go ]; do sleep 0.1; done;"
        " rm -rf a l b; ln -s keep a; mkdir l; cp -p keep/f l/f; ln -s ../../../.. b"
    )
    run = laptop.submit()
    laptop.until(run, "Running")
    laptop.cluster.wait_for(lambda: laptop.there(run, "code/outputs/b/f").exists(), 30, "the first files")
    synced(laptop, run["id"])
    folder = here(laptop, run, "outputs")
    assert (folder / "l").is_symlink() and (folder / "a/f").exists()
    laptop.cluster.write("/home/alice/go", "")
    over(laptop, run)
    [found] = synced(laptop)["runs"]
    assert found["sync"]["state"] == "final"
    assert (folder / "a").readlink() == Path("keep")
    assert not (folder / "l").is_symlink() and (folder / "l/f").read_text() == "2\n"
    assert not (folder / "b").is_symlink()


def test_a_listing_that_is_not_whole_ends_nothing(laptop: Laptop) -> None:
    """A file server that fails for a moment: what it did not show would be lost for good."""
    run = ended(laptop, "echo a >outputs/a")
    finds = '#!/bin/sh\n/usr/bin/find.hidden "$@"; echo "find: \'x\': Input/output error" >&2; exit 1\n'
    laptop.cluster.hide("login", "/usr/bin/find")
    broken = laptop.cluster.outside("/usr/bin/find")
    broken.write_text(finds)
    broken.chmod(0o755)
    try:
        done = laptop.hpcrun("sync", check=False)
        assert done.returncode == 8 and "not all of its files could be listed" in done.stderr
        assert "Input/output error" in done.stderr
        assert laptop.show(run)["state"] == "Finalizing"
    finally:
        laptop.cluster.run("login", ["mv", "/usr/bin/find.hidden", "/usr/bin/find"], user="root")
        laptop.cluster.hidden.clear()
    assert synced(laptop)["runs"][0]["state"] == "Completed"


def test_one_that_waits_says_for_what(laptop: Laptop) -> None:
    run = ended(laptop, BIG)
    with under_way(laptop, run) as first:
        second = laptop.start("sync", run["id"])
        assert second.stderr is not None
        assert "another hpcrun is bringing the files of" in second.stderr.readline()
        out, _ = second.communicate(timeout=120)
        assert second.returncode == 0 and "Completed" in out
        first.communicate(timeout=60)
        assert first.returncode == 0
    assert_same(laptop, run)


def test_files_that_change_each_time_do_not_end_a_run_that_has_ended(laptop: Laptop) -> None:
    """Something that the job left behind still writes."""
    run = ended(laptop, "echo a >outputs/a")
    path = f"{run['run_dir']}/code/outputs/a"
    writer = laptop.cluster.popen("login", ["sh", "-c", f"while :; do date +%N >>{path}; done"])
    done = laptop.hpcrun("sync", "--json", check=False)
    document = json.loads(done.stdout)
    assert done.returncode == 8 and document["runs"] == []
    assert "outputs/a did not come as it is there: it changes each time" in document["errors"][0]["message"]
    assert laptop.show(run)["state"] == "Finalizing"
    writer.kill()
    time.sleep(0.1)
    assert synced(laptop)["runs"][0]["state"] == "Completed"
