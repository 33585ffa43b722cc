"""One run is one job by SSH too, whoever is killed, and whoever does not answer (faults 1, 2, 4)."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.ssh_help import master_pid
from tests.ssh_laptop import Document, Laptop, laptop_of

pytestmark = pytest.mark.cluster


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    yield from laptop_of(cluster, tmp_path, monkeypatch)


CRASH = """
import os, signal, sys
where, name, moment = sys.argv[1:]
import importlib
owner, _, attribute = name.rpartition(".")
holder = importlib.import_module(where)
for part in filter(None, owner.split(".")):
    holder = getattr(holder, part)
original = getattr(holder, attribute)
def crashing(*args, **kwargs):
    if moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(holder, attribute, crashing)
from hpcrun import Experiment, ScriptRunConfig, Workspace
ws = Workspace.from_config()
Experiment(ws, "faulty").submit(ScriptRunConfig("src", "train.py", compute_target="far"))
"""

STEPS = [
    ("hpcrun.history.store", "History.create", "before", 0),
    ("hpcrun.history.store", "History.create", "after", 1),
    ("hpcrun.places.far", "make_home", "after", 1),
    ("hpcrun.places.far", "FarPlace.ask_to_fill", "after", 1),
    ("hpcrun.snapshot", "SnapshotStore.pack", "after", 1),
    ("hpcrun.places.far", "FarPlace.fill", "after", 1),
    ("hpcrun.schedulers.slurmremote", "RemoteSlurmScheduler.submit", "before", 1),
    ("hpcrun.schedulers.slurmremote", "RemoteSlurmScheduler.submit", "after", 1),
    ("hpcrun.engine.sending", "adopt", "before", 1),
    ("hpcrun.history.store", "History._settle_run", "before", 1),
    ("hpcrun.engine.submit", "carry_out", "after", 1),
]


@pytest.mark.parametrize(("where", "name", "moment", "rows"), STEPS, ids=lambda v: str(v))
def test_the_client_is_killed(laptop: Laptop, where: str, name: str, moment: str, rows: int) -> None:
    """Fault 2: the next command adopts or finishes, or there is nothing at all."""
    done = laptop.python(CRASH, where, name, moment)
    assert done.returncode == -9, done.stderr
    runs = laptop.runs()
    assert len(runs) == rows
    if runs:
        laptop.one_job_each(laptop.ended(runs[0]))
    else:
        assert laptop.starts() == []


@pytest.mark.parametrize("words", ["fill", "submit"])
def test_the_master_is_killed(laptop: Laptop, cluster: Cluster, words: str) -> None:
    """Its connection breaks in the middle of a question: that is put again over another one, or looked into."""
    code = KILL_THE_MASTER.replace("{words}", "ask_to_fill" if words == "fill" else "submit_script_")
    where = {
        "fill": ("hpcrun.places.far", "FarPlace.ask_to_fill"),
        "submit": ("hpcrun.schedulers.slurmremote", "RemoteSlurmScheduler.submit"),
    }[words]
    laptop.finish()
    [socket] = [path for path in laptop.runtime.rglob("*") if path.is_socket()]
    pid = master_pid(socket)
    cluster.daemon("slurmctld").stop() if words == "submit" else None
    done = laptop.start_python(code, *where, str(pid))
    if words == "submit":
        cluster.wait_for(lambda: cluster.processes("login", "sbatch"), 20, "sbatch to start")
        os.kill(pid, signal.SIGKILL)
        cluster.daemon("slurmctld").cont()
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0, (out, err)
    runs = laptop.runs()
    laptop.one_job_each(*[laptop.ended(run) for run in runs])
    assert len(runs) == 2
