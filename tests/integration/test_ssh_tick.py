"""What cron calls: every run moves, trouble is told once, and ticks that overlap or are killed do no harm."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.engine_help import until
from tests.faults.test_ssh_login import Terminal
from tests.integration.test_ssh_sync import ended, here, over
from tests.ssh_help import SshdLog, ssh_config
from tests.ssh_laptop import Document, Laptop, laptop_of

pytestmark = pytest.mark.cluster


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    yield from laptop_of(cluster, tmp_path, monkeypatch)


def tick(laptop: Laptop, *options: str, code: int = 0) -> str:
    """What a tick says, on both streams."""
    done = laptop.hpcrun("tick", *options, check=False)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout + done.stderr


def until_home(laptop: Laptop, *runs: Document) -> None:
    """Tick, in silence, until these runs have come home."""

    def home() -> bool:
        assert tick(laptop) == ""
        return all(record(laptop, run)["state"] == "Completed" for run in runs)

    until(home, "the runs to come home", seconds=60)


def record(laptop: Laptop, run: Document) -> Document:
    """The run as it is written down; nobody is asked."""
    document: Document = json.loads(here(laptop, run, "run.json").read_text())
    return document


def second_site(laptop: Laptop, host: str, **connection: object) -> None:
    """A site ``near_by``, described as the first one, but for how it is reached."""
    config = ssh_config(laptop.cluster, laptop.folder / "ssh2", HostName=host)
    site = {
        "connection": {"type": "ssh", "host": "login", "ssh_config": str(config), **connection},
        "root": "$HOME/near_by",
        "scheduler": {"type": "slurm"},
        "default_partition": "main",
    }
    (laptop.project / "site_configs/near_by.yaml").write_text(json.dumps(site))


def test_all_is_well_and_nothing_is_said(laptop: Laptop) -> None:
    assert tick(laptop) == "", "no runs at all"
    laptop.config(command="echo a >outputs/a; sleep 2; echo b >outputs/b")
    run = laptop.submit()
    until_home(laptop, run)
    assert here(laptop, run, "outputs/b").read_text() == "b\n"
    assert tick(laptop) == ""


def test_what_a_run_measures_can_be_asked_for_at_home(laptop: Laptop) -> None:
    """While it goes on, as far as it was brought; all of it, once a tick has brought it home."""
    laptop.config(
        command="f=$HPCRUN_RUN_DIR/metrics/rank_000.jsonl\n"
        """echo '{"n": "acc", "v": 0.5, "t": 1}' >>$f\n"""
        "until [ -e outputs/go ]; do sleep 0.2; done\n"
        """echo '{"n": "acc", "v": 0.75, "t": 2}' >>$f"""
    )
    run = laptop.submit()
    laptop.until(run, "Running")

    def asked(*words: str) -> list[object]:
        return [found["metrics"] for found in laptop.json("ls", *words)["runs"]]

    def told() -> bool:
        assert tick(laptop) == ""
        return bool(laptop.json("show", run["id"])["metrics"] == {"acc": 0.5})

    until(told, "the first metric to come home", seconds=60)
    assert asked("--sort", "metric:acc") == [{"acc": 0.5}]
    laptop.there(run, "code/outputs/go").touch()
    until_home(laptop, run)
    assert asked("--where", "acc > 0.7", "--sort", "min:acc") == [{"min:acc": 0.5, "acc": 0.75}]


def test_what_moved_is_said_if_asked_for(laptop: Laptop) -> None:
    run = ended(laptop, "echo a >outputs/a")
    document = laptop.json("tick")
    assert [(r["id"], r["state"]) for r in document["moved"]] == [(run["id"], "Completed")]
    assert (document["busy"], document["trouble"], document["news"], document["over"]) == (False, {}, {}, [])
    run = ended(laptop, "echo a >outputs/a")
    assert f"{run['id']}: Completed, " in tick(laptop, "-v")


def test_trouble_is_told_when_it_begins_when_it_changes_and_when_it_is_over(laptop: Laptop) -> None:
    laptop.config(command="until [ -e /home/alice/go ]; do sleep 0.2; done")
    run = laptop.submit()
    laptop.until(run, "Running")
    laptop.hang_up()
    laptop.cluster.daemon("sshd").kill()
    first = tick(laptop, code=11)
    assert first.startswith("hpcrun: far: ") and len(first.splitlines()) == 1
    assert tick(laptop, code=11) == ""
    laptop.site(ssh_config(laptop.cluster, laptop.folder / "ssh", HostName="nowhere.invalid"))
    second = tick(laptop, code=11)
    assert second.startswith("hpcrun: far: ") and second != first
    assert tick(laptop, code=11) == ""
    assert "nowhere" in tick(laptop, "-v", code=11)
    laptop.site()
    laptop.cluster.daemon("sshd").start()
    assert tick(laptop) == "hpcrun: far: all is well again\n"
    laptop.cluster.write("/home/alice/go", "")
    until_home(laptop, run)


def test_one_site_is_away_and_the_others_move_on(laptop: Laptop) -> None:
    second_site(laptop, laptop.cluster.ssh_address)
    laptop.config(command="echo a >outputs/a")
    far, near = laptop.submit(), laptop.json("submit", "run.yaml", "-t", "near_by")
    for run in (far, near):
        over(laptop, run)
    laptop.hang_up()
    with laptop.cluster.relay() as relay:
        port = relay.port  # nobody listens there any more
    laptop.site(ssh_config(laptop.cluster, laptop.folder / "ssh", HostName="127.0.0.1", Port=port))
    said = tick(laptop, code=11)
    assert said.startswith("hpcrun: far: ")
    assert record(laptop, near)["state"] == "Completed" and record(laptop, far)["state"] == "Finalizing"
    laptop.site()
    assert "all is well again" in tick(laptop)
    assert record(laptop, far)["state"] == "Completed"


def test_a_refusal_is_met_once_a_tick_and_a_sync(laptop: Laptop) -> None:
    """Fault 31: many refusals in a row get an address banned."""
    laptop.config(command="sleep 600")
    run = laptop.submit()
    laptop.until(run, "Running")
    laptop.hang_up()
    laptop.site(ssh_config(laptop.cluster, laptop.folder / "ssh", User="nobody"))
    log = SshdLog(laptop.cluster)
    assert "refused the login" in tick(laptop, code=11)
    assert log.connections == 1
    done = laptop.hpcrun("sync", check=False)
    assert done.returncode == 11 and "refused the login" in done.stderr
    assert log.connections == 2
    laptop.site()


def test_where_somebody_must_log_in_it_is_said_at_once_and_once(laptop: Laptop) -> None:
    laptop.config(command="sleep 600")
    run = laptop.submit()
    laptop.until(run, "Running")
    laptop.hang_up()
    laptop.site(connection={"two_factor": True})
    log = SshdLog(laptop.cluster)
    assert "hpcrun login far" in tick(laptop, code=12)
    assert tick(laptop, code=12) == ""
    assert log.connections == 0


def test_ticks_that_overlap_and_one_that_is_killed(laptop: Laptop) -> None:
    run = ended(laptop, "head -c 30000000 /dev/urandom >outputs/big")
    with laptop.by_relay(latency=0.004):
        first = laptop.start("tick")
        folder = here(laptop, run, "code/outputs")
        until(lambda: list(folder.glob(".big.*")), "the first bytes", seconds=60)
        assert tick(laptop) == ""
        assert laptop.json("tick")["busy"]
        os.kill(first.pid, signal.SIGKILL)
        first.communicate(timeout=20)
        assert not laptop.json("tick")["busy"]
    assert record(laptop, run)["state"] == "Completed"
    assert (folder / "big").read_bytes() == laptop.there(run, "code/outputs/big").read_bytes()


def test_what_another_is_bringing_is_left_to_it(laptop: Laptop) -> None:
    run = ended(laptop, "head -c 30000000 /dev/urandom >outputs/big")
    with laptop.by_relay(latency=0.004), laptop.start("sync") as other:
        folder = here(laptop, run, "code/outputs")
        until(lambda: list(folder.glob(".big.*")), "the first bytes", seconds=60)
        assert tick(laptop) == ""
        assert record(laptop, run)["state"] == "Finalizing", "it did not wait"
        other.communicate(timeout=60)
        assert other.returncode == 0
    assert record(laptop, run)["state"] == "Completed"


def test_a_recurring_run_waits_for_somebody_to_log_in(laptop: Laptop) -> None:
    """It is said once, nothing is begun meanwhile, and nothing is lost; so with runs that are under way."""
    laptop.config(command="echo a >outputs/a")
    laptop.hpcrun("submit", "run.yaml", "-t", "far", "--schedule", "@daily", "--name", "night")
    first = laptop.submit()
    laptop.hang_up()
    laptop.site(connection={"two_factor": True})
    log = SshdLog(laptop.cluster)
    due(laptop, "night")
    said = tick(laptop, code=12)
    assert said.count("hpcrun login far") == 1 == len(said.splitlines())
    assert tick(laptop, code=12) == "" and log.connections == 0
    assert [run["id"] for run in laptop.json("ls", "--no-refresh")["runs"]] == [first["id"]]
    terminal = Terminal("--workspace", str(laptop.project), "login", "far", env=laptop.env)
    assert terminal.end() == 0, terminal.shown  # no code is asked for here: the key is enough
    assert "all is well again" in tick(laptop)
    over(laptop, laptop.json("schedule", "show", "night")["last"]["run"])
    runs = laptop.json("ls", "--no-refresh")["runs"]
    until_home(laptop, *runs)
    assert len(runs) == 2


def due(laptop: Laptop, name: str) -> None:
    """As if no tick had come for two days."""
    file = laptop.project / ".hpcrun/schedules" / f"{name}.json"
    schedule = json.loads(file.read_text())
    file.write_text(json.dumps({**schedule, "done": "2026-01-01T00:00:00Z"}))
