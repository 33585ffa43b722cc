"""A run on another machine, followed from this one: one channel, each line once, to the end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pytest
import yaml

from hpcrun.cli.text import short_id
from hpcrun.workspace import Workspace
from tests import ssh_help
from tests.cluster.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

Document = dict[str, Any]
PATIENCE = 90.0


class Program:
    """hpcrun, started; what it prints is read as it comes."""

    def __init__(self, *args: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hpcrun", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._threads = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.out), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self.err), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _read(stream: IO[str], lines: list[str]) -> None:
        with stream:
            for line in stream:
                lines.append(line.rstrip("\n"))

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, (self.out[-20:], self.err)
            assert self.process.poll() is None, (self.out[-20:], self.err)
            time.sleep(0.02)

    def end(self, timeout: float = PATIENCE) -> int:
        code = self.process.wait(timeout)
        for thread in self._threads:
            thread.join(10)
        return code


class Laptop:
    """This machine, from which the cluster's login node is reached by ssh alone."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        (folder / "src").mkdir()
        self.site("virtual")

    def site(self, name: str, kind: str = "openssh", changes: Mapping[str, object] | None = None) -> str:
        config = ssh_help.ssh_config(self.cluster, self.folder / "ssh", **(changes or {}))
        site = {
            "connection": {"type": kind, "host": "login", "ssh_config": str(config)},
            "root": "$HOME/hpcrun",
            "default_partition": "main",
        }
        path = self.folder / ".hpcrun" / "site_configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(site))
        return name

    def config(self, command: str, **more: object) -> str:
        data = {"experiment": "exp", "source_directory": "src", "command": command, **more}
        (self.folder / "run.yaml").write_text(json.dumps(data))
        return "run.yaml"

    def typed(self, *args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "hpcrun", *args],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == code, (args, done.stdout, done.stderr)
        return done

    def submit(self, command: str, target: str = "virtual", **more: object) -> str:
        done = self.typed("submit", self.config(command, **more), "-t", target, "--json")
        return str(json.loads(done.stdout)["id"])

    def show(self, run_id: str) -> Document:
        found: Document = json.loads(self.typed("show", run_id, "--json").stdout)
        return found

    def there(self, run_id: str) -> Path:
        return self.cluster.home("alice") / "hpcrun" / "runs" / run_id

    def home(self, run_id: str) -> Path:
        return self.folder / ".hpcrun" / "runs" / run_id

    def newest(self) -> str:
        with Workspace.open(self.folder) as workspace:
            return workspace.runs()[0].id

    def channels(self) -> list[str]:
        """What runs for alice on the login node."""
        said = self.cluster.run(
            "login", ["ps", "-u", "alice", "-o", "pid=,args="], user="root", check=False
        ).stdout
        return [line for line in said.splitlines() if re.search(r"\b(sh|tail|sleep)\b", line)]

    def until_no_channel(self) -> None:
        self.cluster.wait_for(lambda: not self.channels(), 20, "the script to end")


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    for _ in ssh_help.private_runtime(monkeypatch):
        yield Laptop(cluster, tmp_path)


COUNTS = "for i in $(seq {n}); do echo line $i; sleep {pause}; done"


def lines(count: int) -> list[str]:
    return [f"line {number}" for number in range(1, count + 1)]


@pytest.mark.parametrize("kind", ["openssh", "fabric"])
def test_followed_to_the_end(laptop: Laptop, kind: str) -> None:
    laptop.site("there", kind)
    followed = Program("submit", laptop.config(COUNTS.format(n=40, pause=0.1)), "-t", "there", "--follow")
    followed.until(lambda: "line 3" in followed.out)
    assert "line 40" not in followed.out, "as it is printed"
    assert len(laptop.channels()) >= 1
    assert followed.end() == 0
    assert followed.out == lines(40)
    assert any("Completed" in line for line in followed.err)
    laptop.until_no_channel()
    run_id = laptop.newest()
    home, there = laptop.home(run_id), laptop.there(run_id)
    for name in ("user_logs/std_log.txt", "system_logs/job.txt"):
        assert (home / name).read_bytes() == (there / name).read_bytes()
    assert laptop.typed("logs", run_id).stdout.splitlines() == lines(40)


def test_two_ranks_from_python(laptop: Laptop) -> None:
    (laptop.folder / "src" / "t.py").write_text(
        "import os, time\n"
        "for i in range(20):\n"
        "    print(os.environ['RANK'], i, flush=True)\n"
        "    time.sleep(0.05)\n"
    )
    code = (
        "import sys\nfrom hpcrun import *\n"
        "ws = Workspace.from_config('.')\n"
        "config = ScriptRunConfig('src', compute_target='virtual',\n"
        "    command=['/usr/bin/python3', 't.py'],\n"
        "    distributed_job_config=MpiConfiguration(process_count_per_node=1, node_count=2))\n"
        "run = Experiment(ws, 'exp').submit(config)\n"
        "run.wait_for_completion(show_output=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        said = [line for line in done.stdout.splitlines() if line.startswith(f"[rank {rank}] ")]
        assert said == [f"[rank {rank}] {rank} {i}" for i in range(20)]


def test_some_of_three_ranks_and_the_one_that_failed(laptop: Laptop) -> None:
    """Over one channel, too; the summary has the traceback of the first that failed, from its own log."""
    (laptop.folder / "src" / "t.py").write_text(
        "import os, time\n"
        "rank = os.environ['RANK']\n"
        "print('2026-01-31 12:00:0' + rank, 'I am', rank, flush=True)\n"
        "while not os.path.exists('go'):\n"
        "    time.sleep(0.05)\n"
        "if rank == '2':\n"
        "    raise ValueError('no good')\n"
        "time.sleep(600)\n"
    )
    dist = {"type": "pytorch", "process_count": 3}
    run_id = laptop.submit("exec python3 t.py", distributed_job_config=dist)
    watch = Program("logs", "-f", run_id, "--rank", "0,2")
    watch.until(lambda: len(watch.out) == 2)
    (laptop.there(run_id) / "code" / "go").touch()
    assert watch.end() == 20
    assert sorted(watch.out[:2]) == [
        "[rank 0] 2026-01-31 12:00:00 I am 0",
        "[rank 2] 2026-01-31 12:00:02 I am 2",
    ]
    assert not any("rank 1" in line for line in watch.out)
    said = "\n".join(watch.err)
    assert "rank 2 on node" in said and "  | Traceback (most recent call last):" in said
    assert "  | ValueError: no good" in said
    merged = laptop.typed("logs", run_id, "--merge").stdout.splitlines()
    assert [line[6] for line in merged[:3]] == ["0", "1", "2"]


def test_cut_in_the_middle_it_goes_on_with_every_line_once(laptop: Laptop) -> None:
    count = 400
    with laptop.cluster.relay() as relay:
        laptop.site("relayed", changes=ssh_help.through(relay, laptop.cluster))
        long = "x" * 120
        counts = f"for i in $(seq {count}); do echo line $i {long}; sleep 0.03; done"
        run_id = laptop.submit(counts, "relayed")
        relay.cut_down = 12_000  # bytes of each connection from now on
        ssh_help.end_masters(Path(os.environ["XDG_RUNTIME_DIR"]))
        followed = Program("logs", "-f", run_id)
        followed.until(lambda: relay.connections >= 4)
        relay.cut_down = None
        assert followed.end() == 0
    assert followed.out == [f"{line} {long}" for line in lines(count)]
    told = [line for line in followed.err if "the connection is lost, and asked for again" in line]
    assert 1 <= len(told) <= relay.connections, followed.err
    laptop.until_no_channel()


@pytest.mark.parametrize(("kind", "hangs"), [("openssh", False), ("openssh", True), ("fabric", True)])
def test_ctrl_c_leaves_the_run_alone(laptop: Laptop, kind: str, hangs: bool) -> None:
    with laptop.cluster.relay() as relay:
        laptop.site("relayed", kind, ssh_help.through(relay, laptop.cluster))
        run_id = laptop.submit("echo begun; sleep 600", "relayed")
        followed = Program("logs", "-f", run_id)
        followed.until(lambda: "begun" in followed.out)
        if hangs:
            relay.latency = 3600
            time.sleep(1.0)
        began = time.monotonic()
        followed.process.send_signal(signal.SIGINT)
        assert followed.end(20) == 130
        took = time.monotonic() - began
        assert took < 1.5, took
        assert any("goes on" in line for line in followed.err)
        assert any(f"hpcrun logs -f {short_id(run_id)}" in line for line in followed.err)
    job = laptop.cluster.run("login", ["squeue", "--noheader", "--format=%T", f"--name={run_id}"]).stdout
    assert job.split() == ["RUNNING"]
    laptop.until_no_channel()


def test_a_requeued_run_goes_on_in_the_same_log(laptop: Laptop) -> None:
    laptop.cluster.reconfigure({"AuthInfo": "cred_expire=5"})  # how long it must wait, else two minutes
    run_id = laptop.submit("echo attempt $HPCRUN_ATTEMPT; [ $HPCRUN_ATTEMPT = 2 ] || sleep 600; echo done")
    followed = Program("logs", "-f", run_id)
    followed.until(lambda: "attempt 1" in followed.out)
    laptop.cluster.run("login", ["scontrol", "requeue", str(laptop.show(run_id)["job_id"])])
    assert followed.end() == 0
    assert followed.out == ["attempt 1", "attempt 2", "done"]


def test_logs_once_while_it_runs(laptop: Laptop) -> None:
    run_id = laptop.submit("echo one; echo half; sleep 600")
    log = laptop.there(run_id) / "user_logs" / "std_log.txt"
    laptop.cluster.wait_for(lambda: log.exists() and log.stat().st_size == 9, 30, "the run to print")
    assert laptop.typed("logs", run_id).stdout == "one\nhalf\n"
    assert "attempt 1" in laptop.typed("logs", run_id, "--system").stdout
    laptop.cluster.daemon("sshd").stop()
    ssh_help.end_masters(Path(os.environ["XDG_RUNTIME_DIR"]))
    laptop.cluster.daemon("sshd").kill()
    done = laptop.typed("logs", run_id)
    assert done.stdout == "one\nhalf\n"
    assert "virtual: " in done.stderr and "shown as last seen" in done.stderr


def test_waiting_in_silence_sees_the_end_at_once(laptop: Laptop) -> None:
    """The job's own word comes over the channel; the logs do not."""
    run_id = laptop.submit("echo much; while [ ! -e go ]; do sleep 0.1; done")
    waiting = Program("wait", run_id)
    laptop.cluster.wait_for(
        lambda: '"stage":"payload"' in read(laptop.home(run_id) / "status.json"), 60, "it"
    )
    code = laptop.there(run_id) / "code"
    (code / "go").touch()
    began = time.monotonic()
    assert waiting.end() == 0
    assert time.monotonic() - began < 9.0, "no pause between two questions is that short"
    laptop.until_no_channel()


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
