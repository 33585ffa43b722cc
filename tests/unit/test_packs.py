"""Trials that share a job: what is asked for them, the program that runs them, and what becomes of each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun import Requeue, Resources, ScriptRunConfig, Workspace, choice, load_sweep
from hpcrun.engine.cancel import cancel, cancel_all
from hpcrun.engine.decide import Known, Verdict
from hpcrun.engine.gc import delete, doomed
from hpcrun.engine.packed import another_turn, decide_packed, of_the_trial
from hpcrun.engine.refresh import refresh
from hpcrun.engine.submit import Extras
from hpcrun.engine.sweep import prepare_sweep, start_sweep
from hpcrun.engine.sweep_step import step_sweep
from hpcrun.engine.sweep_trials import rows_of
from hpcrun.engine.trials import submit_trials
from hpcrun.engine.verify import verify
from hpcrun.errors import ConfigError, SubmissionAmbiguous
from hpcrun.explain.facts import Facts
from hpcrun.explain.rules import explain
from hpcrun.history.index import RunRow
from hpcrun.launchers import farm
from hpcrun.launchers.farming import farm_config
from hpcrun.models.distributed import MpiConfiguration
from hpcrun.models.pack import Pack, unfit
from hpcrun.places.status import JobStatus, read_status
from hpcrun.schedulers.base import JobFacts, JobRef, JobRequest
from hpcrun.schedulers.slurm import cancel_commands
from hpcrun.schedulers.slurmarrays import spread
from hpcrun.shells.local import LocalShell
from hpcrun.states import FINAL, SLURM_STATES, Reason, RunState, from_slurm
from hpcrun.sweeps.driver import Batch, fills
from tests.sweep_help import sweep
from tests.unit.test_trials import Slurm, config_of, made, parent_of, trials_of, use
from tests.unit.test_trials import _quick as _quick

S = RunState
SINCE = "2026-01-31T12:00:00Z"
LEADER = "many_20260131-120000_abcdefgh"

TRAIN = """\
echo "args: $*"
env | sort >outputs/env.txt
case $2 in
    1) exit 3 ;;
    2) sleep 300 ;;
    3) kill -s KILL "$PPID" $$ ;;
esac
"""

STAND_IN = """\
from concurrent.futures import ThreadPoolExecutor
class MPICommExecutor:
    # MPI's processes are threads here; the real ones are on the virtual cluster.
    def __init__(self, comm, root):
        self.pool = ThreadPoolExecutor(comm.size)
    def __enter__(self):
        return self.pool
    def __exit__(self, *more):
        self.pool.shutdown()
"""


# -- what is asked for them ---------------------------------------------------


@given(st.integers(1, 64), st.integers(1, 20), st.integers(1, 5000))
def test_a_job_has_room_for_what_it_runs_and_no_more(at_once: int, nodes: int, trials: int) -> None:
    pack = Pack(at_once=at_once, nodes=nodes)
    wanted, per_node = pack.shape(trials)
    assert 1 <= wanted <= nodes and 1 <= per_node <= at_once
    assert wanted * per_node >= min(trials, pack.size)
    assert (wanted - 1) * per_node < trials, "no node without a trial"


def test_what_the_job_asks_for_is_what_its_trials_do() -> None:
    asked = Resources(cpus_per_task=2, memory="3G", gpus_per_node="a100:2", time="1h", sbatch={"hint": "x"})
    run = ScriptRunConfig(".", "fit.py", ["--lr", "1"], resources=asked, max_run_duration_seconds=60)
    job = farm_config(run, Pack(at_once=4, nodes=2), 7, 5, "/arrays/L", "7 trials")
    assert job.distributed_job_config == MpiConfiguration(4, 2)
    assert (job.script, job.arguments) == ("/arrays/L/farm.py", ["5", "2"])
    found = job.resources
    assert (str(found.memory), str(found.gpus_per_node), found.cpus_per_task) == ("12G", "a100:8", 2)
    assert found.time == asked.time and found.sbatch == asked.sbatch and job.max_run_duration_seconds is None


def test_what_cannot_share_a_job() -> None:
    run = ScriptRunConfig(
        ".", "a.py", distributed_job_config=MpiConfiguration(2), resources=Resources(nodes=2),
        requeue=Requeue(), secrets={"KEY": "env:HIDDEN"}, after=["@-1"],
        environment={"apptainer": {"image": "x.sif"}},
    )  # fmt: skip
    words = unfit(run)
    for name in ("distributed_job_config", "resources.nodes", "requeue", "secrets", "after", "apptainer"):
        assert any(name in each for each in words), name
    assert unfit(ScriptRunConfig(".", "a.py")) == []


@pytest.mark.parametrize(
    ("count", "left", "most", "worth"),
    [(4, 20, None, True), (3, 20, None, False), (3, 3, None, True), (2, 20, 2, True), (1, 20, 2, False)],
)
def test_what_is_worth_a_job(count: int, left: int, most: int | None, worth: bool) -> None:
    assert fills([Batch(0, count)], left, 4, most) is worth


# -- Slurm, which knows of one job --------------------------------------------


def test_what_is_said_of_the_job_is_said_of_each() -> None:
    jobs = [JobRef(f"run{n}", f"/r/runs/run{n}", f"7_{n}", SINCE, LEADER, n, packed=True) for n in range(3)]
    assert spread(f"7|RUNNING|{LEADER}\n8|RUNNING|other\n", jobs[1:]) == (
        "7_1|RUNNING|run1\n7_2|RUNNING|run2\n8|RUNNING|other\n"
    )
    array = [replace(job, packed=False) for job in jobs]
    assert spread(f"7|RUNNING|{LEADER}\n", array) == "", "a job by hand that has an array's name"


def test_one_is_stopped_by_a_mark_and_never_by_its_job() -> None:
    jobs = [JobRef(f"run{n}", f"/r/runs/run{n}", f"7_{n}", SINCE, LEADER, n, packed=True) for n in (4, 2)]
    [(what, argv)] = cancel_commands("alice", jobs)
    assert what == "run4"
    assert argv == ["mkdir", "-p", "--", f"/r/arrays/{LEADER}/stop/4", f"/r/arrays/{LEADER}/stop/2"]


# -- what becomes of each -----------------------------------------------------

BEGUN = JobStatus("7_1", 1, "running", "payload", SINCE, None, None, "", "n1", "")
WELL = replace(BEGUN, state="completed", ended=SINCE, exit_code=0)
BAD = replace(WELL, state="failed", exit_code=3)
TERM = replace(BAD, exit_code=143, signal="TERM")
STOPPED = replace(TERM, state="canceled")


def verdict(word: str | None, status: JobStatus | None, state: RunState = S.RUNNING) -> Verdict | None:
    facts = None if word is None else JobFacts("7_1", word)
    return decide_packed(Known(state, facts, status, queue=True, answered=True, unseen=0.0, near=True))


def outcome(*args: Any) -> tuple[str, str, int | None] | None:
    found = verdict(*args)
    return None if found is None else (found.state.value, str(found.reason), found.exit_code)


@pytest.mark.parametrize(
    "word", [None, "PENDING", "RUNNING", "COMPLETED", "TIMEOUT", "CANCELLED", "NODE_FAIL"]
)
def test_its_own_end_is_its_end(word: str | None) -> None:
    assert outcome(word, WELL) == ("Completed", "", 0)
    assert outcome(word, BAD) == ("Failed", "BadExit", 3)
    assert outcome(word, STOPPED, S.CANCEL_REQUESTED) == ("Canceled", "Canceled", 143)


def test_one_that_was_ended_with_the_job_has_the_reason_of_the_job() -> None:
    for status in (BEGUN, TERM):
        code = status.exit_code
        assert outcome("TIMEOUT", status) == ("Failed", "Timeout", code)
        assert outcome("NODE_FAIL", status) == ("Failed", "NodeFail", code)
        assert outcome("FAILED", status) == ("Failed", "Lost", code)
        assert outcome("CANCELLED", status) == ("Failed", "Canceled", code)
        assert outcome("CANCELLED", status, S.CANCEL_REQUESTED) == ("Canceled", "Canceled", None)
    assert outcome("COMPLETED", BEGUN) == ("Failed", "Lost", None)
    assert outcome("COMPLETED", TERM) == ("Failed", "Signal", 143), "it was not the job that ended it"
    found = verdict("TIMEOUT", BEGUN)
    assert found is not None
    assert found.message == "the job of its pack, 7, reached its time limit while it ran"


def test_one_whose_turn_has_not_come() -> None:
    assert outcome("PENDING", None, S.QUEUED) == ("Queued", "", None)
    assert outcome("RUNNING", None, S.QUEUED) == ("Queued", "Pack", None)
    assert outcome("TIMEOUT", None, S.QUEUED) == ("Failed", "NotBegun", None)
    assert outcome("CANCELLED", None, S.QUEUED) == ("Failed", "Canceled", None)
    assert outcome("PENDING", None, S.CANCEL_REQUESTED) == ("Canceled", "Canceled", None)
    assert outcome("RUNNING", None, S.CANCEL_REQUESTED) is None, "the job may just be about to begin it"


@given(
    st.sampled_from([*SLURM_STATES]),
    st.sampled_from([None, BEGUN, TERM]),
    st.sampled_from([S.QUEUED, S.RUNNING, S.STARTING]),
)
def test_none_ends_before_its_job_does_without_a_word(
    word: str, status: JobStatus | None, state: RunState
) -> None:
    found, known = verdict(word, status, state), from_slurm(word)
    assert known is not None
    assert (found is not None and found.state in FINAL) == known[0].final
    assert found is None or found.state is not S.COMPLETED


def test_when_and_where_it_ran_are_its_own() -> None:
    job = JobFacts("7_1", "RUNNING", started="x", nodes="n[1-9]", usage={"elapsed_seconds": 9.0})
    found = of_the_trial(job, WELL)
    assert found is not None and (found.started, found.nodes, found.usage) == (SINCE, "n1", None)
    begun = of_the_trial(job, BEGUN)
    assert begun is not None and (begun.word, begun.started, begun.nodes) == ("RUNNING", None, None)


def row(number: int, state: RunState, reason: str, job: str) -> RunRow:
    values = dict.fromkeys(RunRow._fields, "")
    return RunRow(**{**values, "id": f"r{number}", "state": state, "reason": reason, "job_id": job})  # type: ignore[arg-type]


def test_another_turn_only_where_the_job_got_somewhere() -> None:
    waited = {n: (0, row(n, S.FAILED, "NotBegun", f"7_{n}")) for n in (1, 2)}
    stuck = {5: (2, row(5, S.FAILED, "NotBegun", "8_0"))}
    every = [each for _, each in {**waited, **stuck}.values()]
    assert another_turn(every, {**waited, **stuck}) == {}
    every.append(row(0, S.COMPLETED, "", "7_0"))
    assert another_turn(every, {**waited, **stuck}) == {1: 1, 2: 1}
    every.append(row(6, S.FAILED, Reason.BAD_EXIT.value, "8_1"))
    assert another_turn(every, {**waited, **stuck}) == {1: 1, 2: 1, 5: 3}


# -- the program --------------------------------------------------------------


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with made(tmp_path) as workspace:
        (tmp_path / "src/train.sh").write_text(TRAIN)
        yield workspace


def submit(ws: Workspace, count: int, limit: int | None = None, **pack: Any) -> list[str]:
    return submit_trials(
        ws.history, ws.targets, config_of(ws), trials_of(ws, [{"x": n} for n in range(count)]),
        parent=parent_of(ws), experiment="exp", limit=limit, tags={}, pack=Pack(**{"at_once": 2, **pack}),
    )  # fmt: skip


def unpacked(request: JobRequest) -> Path:
    """The folder of a job, whose script has written what it brings: by all that it does but for srun."""
    script, folder = (request.run_dir / "job.sh").read_text(), request.run_dir
    for name in ("farm.py", "trial.sh"):
        text = script.partition(f"cat >../{name}.new <<'HPCRUN_END'")[2].partition("\n")[2]
        (folder / name).write_text(text.partition("HPCRUN_END\n")[0])
    return folder


def started(
    folder: Path, tmp_path: Path, size: int = 3, limit: int = 0, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    stand_in = tmp_path / "mpi/mpi4py"
    stand_in.mkdir(parents=True, exist_ok=True)
    (stand_in / "__init__.py").write_text("")
    world = f"class COMM_WORLD:\n    size = {size}\n    Get_size = staticmethod(lambda: {size})\n"
    (stand_in / "MPI.py").write_text(world)
    (stand_in / "futures.py").write_text(STAND_IN)
    given = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(stand_in.parent), "RANK": "0", "LOCAL_RANK": "0",
        "WORLD_SIZE": str(size), "SLURM_JOB_ID": "101", "SLURM_NTASKS": str(size), "SLURM_PROCID": "0",
        "SLURM_JOB_NODELIST": "n[1-2]", "SLURMD_NODENAME": "n1", "HPCRUN_RUN_DIR": str(folder),
        "PMIX_RANK": "0", "MASTER_PORT": "1", "HPCRUN_KILL_WAIT": "2",
        "HPCRUN_PACK_NAMES": "PATH SLURM_JOB_ID SLURM_NTASKS SLURM_PROCID SLURM_JOB_NODELIST SLURMD_NODENAME"
        " MASTER_PORT",
        **(env or {}),
    }  # fmt: skip
    argv = [sys.executable, str(folder / "farm.py"), str(limit), "0"]
    return subprocess.Popen(argv, env=given, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def ends(ws: Workspace, ids: list[str]) -> dict[int, tuple[str, int | None]]:
    runs = ws.history.paths.folder / "runs"
    found = {n: read_status(runs / run_id / "status.json") for n, run_id in enumerate(ids)}
    return {n: (status.state, status.exit_code) for n, status in found.items() if status is not None}


def test_the_farm(ws: Workspace, tmp_path: Path) -> None:
    """One job, whatever it is that its trials come to: each is a run that says how it ended."""
    slurm = use(ws)
    ids = submit(ws, 6, nodes=2)
    [request] = slurm.submitted
    assert (request.run_id, request.array, request.log) == (ids[0], "", "pack.txt")
    folder = unpacked(request)
    (folder / "stop/5").mkdir(parents=True)
    farm = started(folder, tmp_path)
    log = tmp_path / f"ws/.hpcrun/runs/{ids[2]}/user_logs/std_log.txt"
    while not (log.exists() and log.read_text()):
        assert farm.poll() is None
    (folder / "stop/2").mkdir()
    said, _ = farm.communicate(timeout=120)
    assert farm.returncode == 0, said
    assert ends(ws, ids) == {
        0: ("completed", 0), 1: ("failed", 3), 2: ("canceled", 143), 3: ("failed", 137),
        4: ("completed", 0), 5: ("canceled", None),
    }  # fmt: skip
    assert "of 6 trials are to run" in said
    run = tmp_path / f"ws/.hpcrun/runs/{ids[4]}"
    assert (run / "user_logs/std_log.txt").read_text() == "args: --x 4\n"
    env = dict(line.split("=", 1) for line in (run / "code/outputs/env.txt").read_text().splitlines())
    assert (env["SLURM_NTASKS"], env["SLURM_JOB_NODELIST"], env["HPCRUN_JOB_ID"]) == ("1", "n1", "101_4")
    assert not {"PMIX_RANK", "MASTER_PORT", "RANK", "HPCRUN_PACK_NAMES"} & env.keys()
    assert "as job 101_4 on n1" in (run / "system_logs/job.txt").read_text()
    slurm.words = dict.fromkeys(ids, "COMPLETED")
    refresh(ws.history, ws.targets)
    states = {n: ws.history.get(run_id) for n, run_id in enumerate(ids)}
    assert {n: (r.state.value, r.reason) for n, r in states.items()} == {
        0: ("Completed", ""), 1: ("Failed", "BadExit"), 2: ("Canceled", "Canceled"),
        3: ("Failed", "Signal"), 4: ("Completed", ""), 5: ("Canceled", "Canceled"),
    }  # fmt: skip
    assert states[4].nodes == "n1" and states[4].job_id == "101_4"


def test_the_next_attempt_of_the_job_runs_what_has_not_ended(ws: Workspace, tmp_path: Path) -> None:
    use(ws)
    ids = submit(ws, 2)
    folder = unpacked(ws.targets.get("cluster").scheduler.submitted[0])  # type: ignore[attr-defined]
    farm = started(folder, tmp_path, 2)
    farm.communicate(timeout=60)
    assert ends(ws, ids) == {0: ("completed", 0), 1: ("failed", 3)}
    status = tmp_path / f"ws/.hpcrun/runs/{ids[0]}/status.json"
    ended_with_the_job = {**json.loads(status.read_text()), "state": "failed", "signal": "TERM"}
    status.write_text(json.dumps(ended_with_the_job))
    said, _ = started(folder, tmp_path, 2, env=AGAIN).communicate(timeout=60)
    assert "1 of 2 trials are to run" in said and ends(ws, ids)[0] == ("completed", 0)
    assert json.loads(status.read_text())["attempt"] == 2


AGAIN = {
    "HPCRUN_ATTEMPT": "2",
    "SLURM_RESTART_COUNT": "1",
    "HPCRUN_PACK_NAMES": "PATH SLURM_JOB_ID SLURM_JOB_NODELIST SLURMD_NODENAME SLURM_RESTART_COUNT",
}


@pytest.mark.parametrize("missing", [True, False])
def test_where_mpi_is_not_as_it_should_be_every_trial_says_so(
    ws: Workspace, tmp_path: Path, missing: bool
) -> None:
    """Without the second, each of the processes would run all trials."""
    slurm = use(ws)
    ids = submit(ws, 3)
    folder = unpacked(slurm.submitted[0])
    env: Mapping[str, str] = {"PYTHONPATH": ""} if missing else {"WORLD_SIZE": "4"}
    said, _ = (farm := started(folder, tmp_path, 2, env=env)).communicate(timeout=60)
    words = "a pack needs mpi4py" if missing else "4 processes were started, and MPI sees 2"
    assert farm.returncode == 104 and words in said, said
    others = started(folder, tmp_path, 2, env={**env, "RANK": "1"})
    assert others.communicate(timeout=60)[0] == "" and others.returncode == 0, "it would end the first"
    slurm.words = dict.fromkeys(ids, "FAILED")
    refresh(ws.history, ws.targets)
    for record in map(ws.history.get, ids):
        assert (record.state, record.reason) == (S.FAILED, "LaunchFailed") and words in record.message


def test_no_more_at_once_than_the_limit(ws: Workspace, tmp_path: Path) -> None:
    slurm = use(ws)
    (tmp_path / "src/train.sh").write_text("")
    submit(ws, 4, limit=1)
    script = (slurm.submitted[0].run_dir / "job.sh").read_text()
    assert "farm.py 1 0\n" in script
    said, _ = started(unpacked(slurm.submitted[0]), tmp_path, 3, 1).communicate(timeout=60)
    assert "1 at a time" in said


def test_gpus_are_dealt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    assert farm.environment(0, 2)["CUDA_VISIBLE_DEVICES"] == "2,3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert "CUDA_VISIBLE_DEVICES" not in farm.environment(0, 2)


# -- the history --------------------------------------------------------------


def test_so_many_in_one_job(ws: Workspace) -> None:
    slurm = use(ws)
    submit(ws, 7, trials=3)
    scripts = [(request.run_dir / "job.sh").read_text() for request in slurm.submitted]
    assert [f"# {n} trials of " in script for n, script in zip((3, 3, 1), scripts, strict=True)] == [True] * 3
    assert "#SBATCH --ntasks-per-node=1" in scripts[2]


def test_those_that_wait_are_not_looked_at_one_by_one(ws: Workspace) -> None:
    slurm = use(ws)
    ids = submit(ws, 3)
    slurm.words = dict.fromkeys(ids, "RUNNING")
    refresh(ws.history, ws.targets)
    rows = {row.id: row for row in ws.history.active()}
    assert {(rows[run_id].state, rows[run_id].reason) for run_id in ids} == {(S.QUEUED, "Pack")}
    assert not any(ws.history.paths.run(run_id).record.exists() for run_id in ids)


def test_the_job_is_canceled_once_none_is_to_go_on(ws: Workspace) -> None:
    slurm = use(ws)
    ids = submit(ws, 3)
    cancel(ws.history, ws.targets, ids[1])
    assert [(job.run_id, job.packed) for job in slurm.canceled] == [(ids[1], True)]
    assert ws.history.get(ids[1]).state is S.CANCELED, "it never begins: the mark is there before the job"
    slurm.canceled.clear()
    assert cancel_all(ws.history, ws.targets, [ids[0], ids[2]]) == {}
    assert [(job.run_id, job.packed, job.array) for job in slurm.canceled] == [
        (ids[0], True, ids[0]), (ids[2], True, ids[0]), (ids[0], False, "")
    ]  # fmt: skip


def test_a_machine_without_slurm(ws: Workspace) -> None:
    config = config_of(ws).model_copy(update={"compute_target": "local"})
    with pytest.raises(ConfigError, match="a pack is one job of Slurm's, and local has none"):
        submit_trials(
            ws.history, ws.targets, config, trials_of(ws, [{"x": 1}]),
            parent=parent_of(ws), experiment="exp", limit=None, tags={}, pack=Pack(at_once=2),
        )  # fmt: skip


def test_one_that_was_canceled_before_the_job_was_sent_is_left_out(ws: Workspace) -> None:
    slurm = use(ws)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hpcrun.engine.tables.Submission.step", lambda self: False)
        ids = submit(ws, 3)
        assert cancel(ws.history, ws.targets, ids[1]).state is S.CANCELED
    refresh(ws.history, ws.targets)
    assert [request.run_id for request in slurm.submitted] == [ids[0]]
    assert [(job.run_id, job.packed) for job in slurm.canceled] == [(ids[1], True)], "a mark for the job"


def test_an_answer_that_is_lost_is_looked_for(ws: Workspace) -> None:
    slurm = use(ws, Slurm([SubmissionAmbiguous("lost")]))
    ids = submit(ws, 2)
    assert [(request.token, request.array) for request in slurm.submitted] == [("1", "")]
    assert [ws.history.get(run_id).job_id for run_id in ids] == ["101_0", "101_1"]


def test_a_file_may_say_what_shares_a_job(tmp_path: Path) -> None:
    text = (
        "script: a.py\nsweep:\n  space: {x: {choice: [1, 2]}}\n  sampling: grid\n"
        "  metric: m\n  goal: minimize\n"
        "  pack: {at_once: 8, nodes: 2}\n"
    )
    (tmp_path / "a.py").write_text("")
    (tmp_path / "sweep.yaml").write_text(text)
    config = load_sweep(tmp_path / "sweep.yaml")
    assert config.pack == Pack(at_once=8, nodes=2)
    assert config.section.model_dump(mode="json", exclude_none=True)["pack"] == {"at_once": 8, "nodes": 2}
    assert sweep({"x": choice(1, 2)}, "grid", pack={"at_once": 8, "nodes": 2}).pack == config.pack
    with pytest.raises(ValueError, match=r"leave resources\.nodes out"):
        run = ScriptRunConfig(".", "a.py", resources=Resources(nodes=2))
        sweep({"x": choice(1, 2)}, "grid", pack={"at_once": 8}, run_config=run)
    (tmp_path / "sweep.yaml").write_text(text.replace("script: a.py", "script: a.py\nsecrets: {A: 'env:A'}"))
    with pytest.raises(ConfigError, match="the trials of a pack have no secrets yet"):
        load_sweep(tmp_path / "sweep.yaml")


def test_deleted_with_the_last(ws: Workspace, tmp_path: Path) -> None:
    slurm = use(ws)
    ids = submit(ws, 2)
    folder = unpacked(slurm.submitted[0])
    started(folder, tmp_path, 2).communicate(timeout=60)
    slurm.words = dict.fromkeys(ids, "COMPLETED")
    refresh(ws.history, ws.targets)
    for run_id, left in zip(ids, (True, False), strict=True):
        [doom], _ = doomed(ws.history, run_ids=[run_id])
        delete(ws.history, ws.targets, doom)
        assert folder.exists() == left
    assert verify(ws.history.paths, LocalShell()).findings == []


@pytest.mark.parametrize(
    ("reason", "message", "words"),
    [
        ("NotBegun", "the job of its pack, 7, failed before its turn came", "Its turn did not come"),
        (
            "Timeout",
            "the job of its pack, 7, reached its time limit while it ran",
            "It was ended with others",
        ),
        ("LaunchFailed", "the job of its pack ran no trial: a pack needs mpi4py", "Add mpi4py, and an MPI"),
    ],
)
def test_why_it_ended_with_its_job(reason: str, message: str, words: str) -> None:
    facts = Facts("a_1_b", S.FAILED, reason, message, pack="/r/arrays/L", code=False, folder=False)
    found = explain(facts)
    assert found.cause == reason and words in " ".join([found.words, *found.next])
    assert "/r/arrays/L/pack.txt" in " ".join(found.next)
    assert explain(replace(facts, pack="")).words != found.words


def test_a_sweep_gives_those_another_turn_whose_turn_did_not_come(ws: Workspace) -> None:
    """Until a job gets nowhere; and it is not over before."""
    slurm = use(ws)
    run = config_of(ws).model_copy(update={"experiment": "exp"})
    config = sweep({"x": choice(0, 1, 2, 3)}, "grid", None, pack={"at_once": 2}, run_config=run)
    plan = prepare_sweep(config, ws.history.paths, ws.targets, ws.history)
    started_one, _ = start_sweep(ws.history, ws.targets, plan, Extras())
    [first] = slurm.submitted
    ids = [row.id for _, row in rows_of(ws.history, started_one.id).values()]
    farm_of(first, ids[0])
    slurm.words = dict.fromkeys(ids, "NODE_FAIL")
    refresh(ws.history, ws.targets)
    found = {n: (row.state.value, row.reason) for n, (_, row) in rows_of(ws.history, started_one.id).items()}
    assert found == {0: ("Completed", ""), **dict.fromkeys((1, 2, 3), ("Failed", "NotBegun"))}
    assert not ws.history.get(started_one.id).state.final
    assert len(step_sweep(ws.history, ws.targets, started_one.id).submitted) == 3
    assert step_sweep(ws.history, ws.targets, started_one.id).submitted == []
    assert [request.array for request in slurm.submitted] == ["", ""]
    latest = rows_of(ws.history, started_one.id)
    assert {n: attempt for n, (attempt, _) in latest.items()} == {0: 0, 1: 1, 2: 1, 3: 1}
    slurm.words = {row.id: "TIMEOUT" for _, row in latest.values()}
    refresh(ws.history, ws.targets)
    record = ws.history.get(started_one.id)
    assert (record.state, record.message) == (S.COMPLETED, "3 of its 4 trials failed")
    assert len(slurm.submitted) == 2


def farm_of(request: JobRequest, run_id: str) -> None:
    """A job that has run this one well, and no other."""
    folder = request.run_dir.parent.parent / "runs" / run_id
    (folder / "system_logs").mkdir(parents=True)
    status = {"run_id": run_id, "job_id": "101_0", "attempt": 1, "state": "completed", "stage": "payload"}
    times = {"started": SINCE, "ended": SINCE, "exit_code": 0}
    (folder / "status.json").write_text(json.dumps({**status, **times}))
