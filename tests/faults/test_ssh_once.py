"""One run is one job by SSH too, whoever is killed, and whoever does not answer (faults 1, 2, 4)."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.crash_help import CRASH
from tests.ssh_help import master_pid
from tests.ssh_laptop import Laptop, laptop_of

pytestmark = pytest.mark.cluster


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    yield from laptop_of(cluster, tmp_path, monkeypatch)


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
    done = laptop.python(CRASH, where, name, moment, "far")
    assert done.returncode == -9, done.stderr
    runs = laptop.runs()
    assert len(runs) == rows
    if runs:
        laptop.one_job_each(laptop.ended(runs[0]))
    else:
        assert laptop.starts() == []


def while_sbatch_waits(laptop: Laptop, cluster: Cluster) -> subprocess.Popen[str]:
    """A submission whose sbatch hangs, since slurmctld does."""
    # The site is known, its connection open, and its run over: without slurmctld srun starts nothing.
    laptop.finish()
    cluster.daemon("slurmctld").stop()
    submitting = laptop.start("submit", "run.yaml", "-t", "far", "--json")
    cluster.wait_for(lambda: cluster.processes("login", "sbatch"), 20, "sbatch to start")
    return submitting


def all_is_well(laptop: Laptop, count: int = 2) -> None:
    runs = [laptop.ended(run) for run in laptop.runs()]
    assert len(runs) == count
    laptop.one_job_each(*runs)


def test_the_connection_breaks_while_sbatch_hangs(laptop: Laptop, cluster: Cluster) -> None:
    """The master is killed. The submission is found to be under way, and its answer is found in the end."""
    submitting = while_sbatch_waits(laptop, cluster)
    [socket] = [path for path in laptop.runtime.rglob("*") if path.is_socket()]
    os.kill(master_pid(socket), signal.SIGKILL)
    cluster.daemon("slurmctld").cont()
    out, err = submitting.communicate(timeout=120)
    assert submitting.returncode == 0, (out, err)
    all_is_well(laptop)


def test_the_client_is_killed_while_sbatch_hangs(laptop: Laptop, cluster: Cluster) -> None:
    """Whoever looks while it does leaves the submission alone, and whoever looks later adopts the job."""
    submitting = while_sbatch_waits(laptop, cluster)
    submitting.kill()
    submitting.communicate(timeout=20)
    sbatch = cluster.processes("login", "sbatch")[0]
    looked = laptop.json("ls", "--json")["runs"][0]
    assert laptop.json("show", looked["id"])["submission"]["state"] == "submitting"
    cluster.daemon("slurmctld").cont()
    cluster.wait_for(lambda: not sbatch.alive(), 40, "sbatch to end")
    all_is_well(laptop)


def test_the_login_node_dies_while_sbatch_hangs(laptop: Laptop, cluster: Cluster) -> None:
    """sbatch and all that waited for it are gone, without an answer. After its time Slurm is asked, and once
    it has no such job, the run is submitted once more."""
    submitting = while_sbatch_waits(laptop, cluster)
    submitting.kill()
    submitting.communicate(timeout=20)
    [sbatch] = cluster.processes("login", "sbatch")
    for process in [p for p in cluster.processes("login", user="alice") if p.pid != sbatch.pid]:
        process.signal(signal.SIGKILL)
    sbatch.signal(signal.SIGKILL)
    laptop.hang_up()
    [token] = [path for path in laptop.root("runs").glob("*/sbatch.0") if not (path / "code").exists()]
    (token / "began").write_text("1000000000\n")
    cluster.daemon("slurmctld").cont()
    run_id = token.parent.name
    cluster.wait_for(lambda: laptop.show(run_id)["job_id"], 60, "the job to be found or made")
    all_is_well(laptop)


def test_many_settle_one_submission(laptop: Laptop) -> None:
    """Fault 4: of those who look at once, one acts."""
    laptop.python(CRASH, "hpcrun.schedulers.slurmremote", "RemoteSlurmScheduler.submit", "before", "far")
    lookers = [laptop.start("ls", "--json") for _ in range(5)]
    for looker in lookers:
        out, err = looker.communicate(timeout=120)
        assert looker.returncode == 0, (out, err)
    all_is_well(laptop, 1)


def test_a_host_that_always_breaks_off_is_not_asked_for_ever(laptop: Laptop, cluster: Cluster) -> None:
    """Each try to submit is cut before sbatch is begun, and may be made again; but not for ever."""
    laptop.submit()
    code = (
        "import hpcrun.engine.reconcile as r; r.SETTLE_WITHIN = 3\n"
        "import hpcrun.schedulers.slurmremote as s\n"
        "from hpcrun.errors import SubmissionAmbiguous\n"
        "tries = []\n"
        "def lost(self, request):\n"
        "    tries.append(request.token)\n"
        "    raise SubmissionAmbiguous('the connection broke')\n"
        "s.RemoteSlurmScheduler.submit = lost\n"
        "from hpcrun import Experiment, ScriptRunConfig, Workspace\n"
        "try:\n"
        "    Experiment(Workspace.from_config(), 'exp').submit("
        "ScriptRunConfig('src', 'train.py', compute_target='far'))\n"
        "except SubmissionAmbiguous as error:\n"
        "    print('gave up', len(tries) == len(set(tries)), len(tries) > 1)\n"
    )
    done = laptop.python(code)
    assert done.stdout == "gave up True True\n", done.stderr
    all_is_well(laptop)


def test_a_run_that_was_never_sent_can_be_canceled(laptop: Laptop) -> None:
    """Also while the site cannot be reached: nothing is there that could be asked."""
    laptop.submit()
    with laptop.by_relay() as relay:
        laptop.json("ls")
        done = laptop.python(CRASH, "hpcrun.places.far", "FarPlace.fill", "before", "far")
        assert done.returncode == -9
        relay.close()
        laptop.hang_up()
        [run] = [r for r in laptop.json("ls", "--no-refresh")["runs"] if r["state"] == "NotStarted"]
        laptop.hpcrun("cancel", run["id"])
    laptop.site()
    assert laptop.show(run["id"])["state"] == "Canceled"
    assert run["id"] not in laptop.slurm("sacct", "-X", "-n", "-P", "-S", "now-1hours", "--format=JobName")
