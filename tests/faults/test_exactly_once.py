"""One run is one job, and its payload runs once, whatever befalls the submission (faults 1, 2, 3, 6)."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.crash_help import CRASH
from tests.faults.conftest import Login

pytestmark = pytest.mark.cluster


def one_job(login: Login) -> None:
    """The run has completed, as one job, and its payload has run once."""
    record = login.wait_for_end()
    assert record["state"] == "Completed"
    assert login.rows() == 1
    assert login.starts() == [record["id"]]
    login.cluster.wait_for(lambda: login.jobs(record["id"]), 30, "accounting to know the job")
    assert login.jobs(record["id"]) == [record["job_id"]]


def test_the_answer_is_lost_and_the_job_is_queued(login: Login, cluster: Cluster) -> None:
    """Fault 1: sbatch says "Socket timed out", and yet the job comes to be."""
    controller = cluster.daemon("slurmctld")
    controller.stop()
    submitting = login.submitting()
    cluster.wait_for(lambda: cluster.processes("login", "sbatch"), 20, "sbatch to start")
    sbatch = cluster.processes("login", "sbatch")[0]
    cluster.wait_for(lambda: not sbatch.alive(), 40, "sbatch to give up")
    controller.cont()
    _, err = submitting.communicate(timeout=120)
    assert submitting.wait() == 0, err
    one_job(login)


def test_the_controller_stays_silent(login: Login, cluster: Cluster) -> None:
    """Fault 1, and Slurm goes on being silent: nothing is tried again, and the next command adopts."""
    controller = cluster.daemon("slurmctld")
    controller.stop()
    code = (
        "import hpcrun.engine.reconcile as r; r.SETTLE_WITHIN = 1\n"
        "from hpcrun import Experiment, ScriptRunConfig, Workspace\n"
        "Experiment(Workspace.from_config(), 'faulty').submit("
        "ScriptRunConfig('src', 'train.py', compute_target='virtual'))"
    )
    done = cluster.run("login", [*login.argv()[:1], "-c", code], cwd=login.project, check=False, timeout=120)
    assert "SubmissionAmbiguous" in done.stderr
    assert "nothing is submitted twice" in done.stderr
    controller.cont()
    one_job(login)


STEPS = [
    ("hpcrun.engine.submit", "first_held", "before", 0),
    ("hpcrun.history.store", "History.create", "before", 0),
    ("hpcrun.history.store", "History._make_run", "before", 1),
    ("hpcrun.history.store", "History.create", "after", 1),
    ("hpcrun.snapshot", "SnapshotStore.check_out", "before", 1),
    ("hpcrun.snapshot", "SnapshotStore.check_out", "after", 1),
    ("hpcrun.places.near", "_link_home", "before", 1),
    ("hpcrun.places.near", "NearPlace.fill", "after", 1),
    ("hpcrun.schedulers.slurm", "SlurmScheduler.submit", "before", 1),
    ("hpcrun.schedulers.slurm", "SlurmScheduler.submit", "after", 1),
    ("hpcrun.engine.sending", "adopt", "before", 1),
    ("hpcrun.history.store", "History._settle_run", "before", 1),
    ("hpcrun.engine.submit", "carry_out", "after", 1),
]


@pytest.mark.parametrize(("where", "name", "moment", "rows"), STEPS, ids=lambda v: str(v))
def test_the_client_is_killed(login: Login, where: str, name: str, moment: str, rows: int) -> None:
    """Fault 2: kill -9 at every step; the next command adopts or finishes, or there is nothing at all."""
    done = login.cluster.run(
        "login",
        [*login.argv()[:1], "-c", CRASH, where, name, moment, "virtual"],
        cwd=login.project,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    assert login.rows() == rows
    if rows:
        one_job(login)
    else:
        assert login.hpcrun("ls", "--json").stdout
        assert login.starts() == []


def test_the_client_is_killed_while_sbatch_goes_on(login: Login, cluster: Cluster) -> None:
    """Fault 2: hpcrun dies, its sbatch does not: nobody submits a second time while it lives."""
    controller = cluster.daemon("slurmctld")
    controller.stop()
    submitting = login.submitting()
    cluster.wait_for(lambda: cluster.processes("login", "sbatch"), 20, "sbatch to start")
    for client in cluster.processes("login", user="alice"):
        if b"hpcrun\0submit" in Path(f"/proc/{client.pid}/cmdline").read_bytes():
            client.signal(signal.SIGKILL)
    assert submitting.wait() == -signal.SIGKILL
    sbatch = cluster.processes("login", "sbatch")[0]
    # Whoever looks now sees that the submission is still under way, and leaves it alone.
    assert login.runs()[0]["submission"]["state"] == "submitting"
    controller.cont()
    cluster.wait_for(lambda: not sbatch.alive(), 40, "sbatch to end")
    one_job(login)


def test_the_script_is_submitted_again_by_hand(login: Login, cluster: Cluster) -> None:
    """Fault 3: three jobs for one run; one of them runs the payload, the others leave at once."""
    login.hpcrun("submit", "run.yaml", "--wait")
    [record] = login.runs()
    again = [
        cluster.run("login", ["sbatch", "--parsable", "--wait", f"{record['run_dir']}/job.sh"], check=False)
        for _ in range(2)
    ]
    assert [done.returncode for done in again] == [102, 102]
    assert login.starts() == [record["id"]]
    said = (cluster.outside(record["run_dir"]) / "system_logs" / "job.txt").read_text()
    for done in again:
        assert f"job {done.stdout.strip()} leaves: the run belongs to job {record['job_id']}" in said
    assert login.wait_for_end()["state"] == "Completed"


@pytest.mark.parametrize(
    "answer",
    [
        'echo "Welcome to the cluster!"; /usr/bin/sbatch "$@"; echo "Have a nice day, user 1234."',
        'echo "$(/usr/bin/sbatch "$@");virtual"',
        '/usr/bin/sbatch "$@" >/dev/null; echo "Submitted, I think"',
        '/usr/bin/sbatch "$@" >/dev/null; kill -9 $$',
    ],
    ids=["banner", "id;cluster", "no id", "killed"],
)
def test_sbatch_answers_otherwise(login: Login, answer: str) -> None:
    """Fault 6: what cannot be read as an answer is looked up, never tried again."""
    environment = login.put_on_path("sbatch", f"#!/bin/bash\necho call >>/home/alice/calls\n{answer}\n")
    login.hpcrun("submit", "run.yaml", "--wait", env=environment)
    assert (login.cluster.home() / "calls").read_text().count("call") == 1
    one_job(login)


def test_a_lost_answer_and_no_job(login: Login) -> None:
    """Fault 1, the other way: once it is certain that there is no job, it is submitted, once."""
    wrapper = (
        "#!/bin/bash\necho call >>/home/alice/calls\n"
        "if [ $(wc -l </home/alice/calls) = 1 ]; then\n"
        '    echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2\n'
        "    exit 1\nfi\n"
        'exec /usr/bin/sbatch "$@"\n'
    )
    login.hpcrun("submit", "run.yaml", "--wait", env=login.put_on_path("sbatch", wrapper))
    assert (login.cluster.home() / "calls").read_text().count("call") == 2
    one_job(login)


def test_the_job_that_took_the_run_is_the_runs_job(login: Login, cluster: Cluster) -> None:
    """Fault 3: a second job was quicker than the one that hpcrun knows of: the run is what that one does."""
    login.hpcrun("submit", "run.yaml", "--set", "resources.sbatch={begin: now+1hour}")
    [record] = login.runs()
    second = cluster.run(
        "login", ["sbatch", "--parsable", "--begin=now", f"{record['run_dir']}/job.sh"], check=False
    ).stdout.strip()
    ended = login.wait_for_end()
    assert (ended["state"], ended["job_id"]) == ("Completed", second)
    assert second != record["job_id"]
    assert login.starts() == [record["id"]]
