"""Trials by the thousand: what all of them have is written once, and each is a run as if submitted alone."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcrun import ScriptRunConfig, Workspace
from hpcrun.engine import tables
from hpcrun.engine.cancel import cancel
from hpcrun.engine.gc import delete, doomed, snapshots_in_use
from hpcrun.engine.prepare import prepare
from hpcrun.engine.refresh import refresh
from hpcrun.engine.tick import tick
from hpcrun.engine.trials import Trial, submit_trials
from hpcrun.engine.verify import verify
from hpcrun.errors import HistoryError, HpcrunError, SubmissionAmbiguous, SubmissionRejected
from hpcrun.history.rebuild import rebuild
from hpcrun.history.record import RunRecord, new_run_id
from hpcrun.history.store import History
from hpcrun.history.tables import Value
from hpcrun.history.trials import Trials
from hpcrun.places.table import is_plain
from hpcrun.schedulers.base import Answer, JobFacts, JobRef, JobRequest, SubmissionPostponed
from hpcrun.shells.local import LocalShell
from hpcrun.states import RunState
from hpcrun.sweeps.applying import apply
from tests.engine_help import source

SITE = """\
name: cluster
scheduler: {{type: slurm, max_array_size: {size}}}
"""


@dataclass
class Slurm:
    """A fake of the scheduler: which task is in which state is decided by the test."""

    answers: list[HpcrunError] = field(default_factory=list)
    submitted: list[JobRequest] = field(default_factory=list)
    words: dict[str, str] = field(default_factory=dict)
    why: str = "Priority"
    canceled: list[JobRef] = field(default_factory=list)
    last: int = 100

    def submit(self, request: JobRequest) -> str:
        if self.answers:
            raise self.answers.pop(0)
        self.submitted.append(request)
        self.last += 1
        return str(self.last)

    def query(self, jobs: Sequence[JobRef]) -> Answer:
        facts = {}
        for job in jobs:
            known = [
                f"{101 + at}_{job.index}" for at, r in enumerate(self.submitted) if r.run_id == job.array
            ]
            job_id = job.job_id or next(iter(known), None)
            if job_id is not None:
                facts[job.run_id] = JobFacts(job_id, self.words.get(job.run_id, "PENDING"), why=self.why)
        return Answer(facts)

    def cancel(self, jobs: Sequence[JobRef]) -> None:
        self.canceled += jobs


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LOOK_AGAIN", 0.0)


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with made(tmp_path) as workspace:
        yield workspace


def made(folder: Path, size: int = 1000) -> Workspace:
    (folder / "ws/.hpcrun/site_configs").mkdir(parents=True, mode=0o700, exist_ok=True)
    (folder / "ws/.hpcrun").chmod(0o700)
    site = folder / "ws/.hpcrun/site_configs/cluster.yaml"
    if not site.exists():  # else other processes may be reading it
        site.write_text(SITE.format(size=size))
        source(folder / "src", train_sh="true\n")
    return Workspace(folder / "ws")


def use(ws: Workspace, slurm: Slurm | None = None) -> Slurm:
    slurm = slurm or Slurm()
    ws.targets._open["cluster"] = replace(ws.targets.get("cluster"), scheduler=slurm)
    return slurm


def config_of(ws: Workspace, *arguments: Any, **more: Any) -> ScriptRunConfig:
    folder = ws.history.paths.folder.parent.parent / "src"
    return ScriptRunConfig(str(folder), "train.sh", [*arguments], compute_target="cluster", **more)


def parent_of(ws: Workspace) -> str:
    rows = [row.id for row in ws.history.list(limit=None) if row.type == "sweep"]
    if rows:
        return rows[0]
    record = RunRecord(
        id=new_run_id("exp"), experiment="exp", type="sweep", target="cluster", scheduler="slurm"
    )
    return ws.history.create(record)[0].id


def trials_of(ws: Workspace, parameters: Sequence[Mapping[str, Value]], first: int = 0) -> list[Trial]:
    parent = parent_of(ws)
    return [Trial(n, dict(p), f"{parent}/{n}") for n, p in enumerate(parameters, first)]


def submit(
    ws: Workspace,
    parameters: Sequence[Mapping[str, Value]],
    *,
    limit: int | None = None,
    config: ScriptRunConfig | None = None,
    pass_as: str = "arguments",
) -> list[str]:
    return submit_trials(
        ws.history, ws.targets, config or config_of(ws, "--rate", "1", "rest"), trials_of(ws, parameters),
        parent=parent_of(ws), experiment="exp", limit=limit, tags={"kind": "trial"}, pass_as=pass_as,
    )  # fmt: skip


def has_record(ws: Workspace, run_id: str) -> bool:
    return ws.history.paths.run(run_id).record.exists()


def task(
    ws: Workspace, request: JobRequest, index: int, *, job_id: str = "101"
) -> subprocess.CompletedProcess[str]:
    """Run the array's script as Slurm would; there is no srun, so what it goes on with ends soon."""
    folder = request.run_dir
    programs = folder.parent.parent / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "srun").write_text("#!/bin/sh\nexit 0\n")
    (programs / "srun").chmod(0o700)
    with (folder / f"{index}.txt").open("a") as log:
        return subprocess.run(
            ["bash", str(folder / "job.sh")],
            cwd=folder, stdout=log, stderr=log, text=True, check=False, timeout=60,
            env={
                "PATH": f"{programs}:/usr/bin:/bin", "SLURM_JOB_ID": f"{job_id}{index}",
                "SLURM_ARRAY_JOB_ID": job_id,
                "SLURM_ARRAY_TASK_ID": str(index), "SLURM_JOB_NODELIST": "here",
            },
        )  # fmt: skip


def normal(record: RunRecord) -> dict[str, Any]:
    """A record's document without what two submissions never have in common."""
    text = record.to_json().replace(record.id, "ID")
    known: dict[str, Any] = json.loads(text)
    for name in ("created", "submitted", "number", "key", "parent"):
        known.pop(name)
    for entry in known["states"]:
        entry.pop("at")
    for name in ("began", "ended"):
        known["submission"].pop(name)
    known["submission"].pop("array")
    return known


def alone(ws: Workspace, parameters: Sequence[Mapping[str, Value]], **more: Any) -> list[str]:
    """The same trials, each with a record from the beginning: the way of runs that are not many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hpcrun.engine.trials._suits", lambda plan: False)
        return submit(ws, parameters, **more)


# -- what they are -------------------------------------------------------------------------------


@pytest.mark.parametrize("pass_as", ["arguments", "variables", "file"])
def test_a_trial_is_what_it_would_be_alone(
    tmp_path: Path, pass_as: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Record, script, configuration and folder, once somebody looks at it and its task has begun."""
    monkeypatch.setattr("hpcrun.sweeps.applying.PARAMETERS_VARIABLE", "PARAMETERS")  # any JSON in a variable
    parameters: list[dict[str, Value]] = [
        {"rate": 0.1, "n": 3, "on": True, "kind": "a:b"},
        {"rate": 1e-05, "n": -4, "on": False, "kind": "true"},
        {"rate": -2.5, "n": 0, "on": True, "kind": "0.10"},
    ]
    found = []
    for way in (submit, alone):
        with made(tmp_path / f"{way.__name__} it's #&;$HOME") as ws:
            slurm = use(ws)
            ids = way(ws, parameters, pass_as=pass_as)
            if way is submit:
                assert len(slurm.submitted) == 1 and not any(has_record(ws, run_id) for run_id in ids)
                [request] = slurm.submitted
                for index in range(len(ids)):
                    task(ws, request, index)
            records = [ws.history.get(run_id) for run_id in ids]
            folders = [Path(record.run_dir) for record in records]
            scripts = [
                (f / "job.sh").read_text().replace(str(f), "DIR").replace(f.name, "ID") for f in folders
            ]
            texts = [(f / "config.yaml").read_text() for f in folders]
            kinds = {p.relative_to(f).parts[0] for f in folders for p in f.rglob("*")}
            at = f"{way.__name__} it"
            found.append(
                json.loads(json.dumps([[normal(r) for r in records], scripts, texts]).replace(at, "AT"))
            )
            kinds -= {"status.json", "claim", "submit.lock", "run.lock"}
            found[-1].append(sorted(kinds))
    assert found[0] == found[1]


def test_numbers_keys_and_order(ws: Workspace) -> None:
    slurm = use(ws)
    ids = submit(ws, [{"rate": n} for n in range(5)])
    assert [ws.history.get(run_id).number for run_id in ids] == [2, 3, 4, 5, 6]
    again = submit(ws, [{"rate": n} for n in range(7)])
    assert again[:5] == ids and len(slurm.submitted) == 2
    assert [row.number for row in ws.history.list(parent=parent_of(ws), limit=None)] == [8, 7, 6, 5, 4, 3, 2]
    rows = ws.history.list(tags={"kind": "trial"}, limit=None)
    assert len(rows) == 7 and {row.job_id for row in rows if row.id in ids} == {f"101_{n}" for n in range(5)}


def test_arrays_of_a_limited_size(tmp_path: Path) -> None:
    """With a limit the next one begins as the one before has ended: no more run at once in all."""
    with made(tmp_path, size=4) as ws:
        slurm = use(ws)
        submit(ws, [{"rate": n} for n in range(10)], limit=2)
        assert [request.array for request in slurm.submitted] == ["0-3%2", "0-3%2", "0-1%2"]
        assert [request.after for request in slurm.submitted] == [[], ["afterany:101"], ["afterany:102"]]


def test_trials_of_different_parameters(ws: Workspace) -> None:
    """A table for each set of names, in turn where there is a limit; numbers as they were given."""
    slurm = use(ws)
    parameters: list[dict[str, Value]] = [
        {"net": "cnn", "width": n} if n % 2 else {"net": "mlp"} for n in range(6)
    ]
    ids = submit(ws, parameters, limit=3)
    assert [(r.array, r.after) for r in slurm.submitted] == [("0-2%3", []), ("0-2%3", ["afterany:101"])]
    assert [ws.history.get(run_id).number for run_id in ids] == [2, 3, 4, 5, 6, 7]
    assert [ws.history.get(run_id).parameters for run_id in ids] == [
        {"rate": "1 rest", **p} for p in parameters
    ]


def test_values_that_are_not_plain_go_the_other_way(ws: Workspace) -> None:
    slurm = use(ws)
    ids = submit(ws, [{"rate": 1}, {"rate": "a b"}, {"rate": 2}, {"rate": float("nan")}])
    assert [has_record(ws, run_id) for run_id in ids] == [False, True, False, True]
    assert len(slurm.submitted) == 2
    assert "'a b'" in (ws.history.paths.run(ids[1]).script).read_text()


WORDS = st.text("abzAZ09_./:=+,@% -'\"$#&\\|~*?!;é\n", min_size=0, max_size=8)
VALUES = st.one_of(
    st.booleans(), st.integers(), st.floats(), WORDS, st.sampled_from(["if", "a=b", "on", "1e3"])
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(
        st.tuples(VALUES, VALUES).filter(lambda pair: all(map(is_plain, pair))), min_size=2, max_size=6
    )
)
def test_scripts_are_what_they_would_be(values: list[tuple[Value, Value]]) -> None:
    """Byte for byte, also where they end up: as sed makes them on the target."""
    with tempfile.TemporaryDirectory() as folder, made(Path(folder)) as ws:
        slurm = use(ws)
        parameters = [{"first": a, "second": b} for a, b in values]
        config = config_of(ws, "--first", "x", environment_variables={"A": "b"})
        ids = submit(ws, parameters, config=config)
        one = {t.number: t for t in trials_of(ws, parameters)}
        for index, run_id in enumerate(ids):
            told = apply(config, one[index].parameters, "arguments")
            plan = prepare(told, ws.history.paths, ws.targets, experiment="exp", run_id=run_id)
            [request] = slurm.submitted
            if index < 2:
                task(ws, request, index)
                assert (Path(plan.run_dir) / "job.sh").read_text() == plan.script
            record = ws.history.get(run_id)
            assert record.config["yaml"] == plan.config_text
            assert record.parameters["first"] == values[index][0]


# -- looked at, or not ---------------------------------------------------------------------------


def test_waiting_trials_are_looked_at_by_their_rows(ws: Workspace) -> None:
    """Ten thousand that wait, for whatever reason, are not given records; those that begin are."""
    slurm = use(ws)
    ids = submit(ws, [{"rate": n} for n in range(6)])
    assert refresh(ws.history, ws.targets).trouble == {}
    assert refresh(ws.history, ws.targets, ask=False).trouble == {}
    rows = {row.id: row for row in ws.history.active()}
    assert {rows[run_id].reason for run_id in ids} == {"Priority"}
    assert {rows[run_id].state for run_id in ids} == {RunState.QUEUED}
    slurm.why, slurm.words = "Resources", {ids[1]: "RUNNING"}
    task(ws, slurm.submitted[0], 2)
    refresh(ws.history, ws.targets)
    assert [has_record(ws, run_id) for run_id in ids] == [False, True, True, False, False, False]
    states = [ws.history.get(run_id).state for run_id in ids[:4]]
    assert states[0] is RunState.QUEUED and states[1] is not RunState.QUEUED
    waiting = ws.history.get(ids[0])
    assert waiting.reason == "Resources" and waiting.states[-1]["reason"] == "Resources"
    assert verify(ws.history.paths, LocalShell()).findings == []


def test_a_tick_makes_no_records_of_those_that_wait(ws: Workspace) -> None:
    slurm = use(ws)
    ids = submit(ws, [{"rate": n} for n in range(6)])
    slurm.words = {ids[1]: "RUNNING"}
    found = tick(ws.history, ws.targets)
    assert found.moved.keys() == {parent_of(ws), ids[1]}
    assert [has_record(ws, run_id) for run_id in ids] == [False, True, False, False, False, False]
    assert tick(ws.history, ws.targets).moved == {}
    assert not has_record(ws, ids[0])


def test_a_second_job_and_a_requeue_find_the_folder(ws: Workspace) -> None:
    """The claim decides: of two arrays one has the trials, and its own requeue goes on."""
    slurm = use(ws)
    [run_id, _] = submit(ws, [{"rate": 1}, {"rate": 2}])
    [request] = slurm.submitted
    task(ws, request, 0)
    run = Path(ws.history.get(run_id).run_dir)
    script = (run / "job.sh").stat().st_ino
    assert (run / "claim").readlink() == Path("101_0")
    assert task(ws, request, 0, job_id="900").returncode == 102
    task(ws, request, 0)
    said = (run / "system_logs/job.txt").read_text()
    assert said.count("attempt 1 of") == 2 and "job 900_0 leaves" in said
    assert (run / "job.sh").stat().st_ino == script
    assert (request.run_dir / "0.txt").is_symlink()
    modes = {p.lstat().st_mode & 0o77 for p in [run, *run.rglob("*")] if not p.is_symlink()}
    assert modes == {0}


def test_half_a_folder_is_made_whole(ws: Workspace) -> None:
    """A task that was killed while it made the folder: the next attempt makes it."""
    slurm = use(ws)
    [run_id, _] = submit(ws, [{"rate": 1}, {"rate": 2}])
    run = ws.history.paths.run(run_id).folder
    (run / ".code.1010.0").mkdir(parents=True, mode=0o700)
    (run / "system_logs").mkdir(mode=0o700)
    (run / "system_logs/job.txt").write_text("before\n")
    task(ws, slurm.submitted[0], 0)
    assert (run / "code/train.sh").exists() and not [*run.glob(".code*")]
    assert "before" in (run / "system_logs/job.txt").read_text()


def test_refused_for_now_leaves_nothing(tmp_path: Path) -> None:
    """Neither runs nor keys nor folders, of the tables that follow either; the next time they are taken."""
    with made(tmp_path, size=3) as ws:
        slurm = use(ws, Slurm(answers=[SubmissionPostponed("not now", fewer=True)]))
        with pytest.raises(SubmissionPostponed, match="not now"):
            submit(ws, [{"rate": n} for n in range(6)], limit=2)
        assert slurm.submitted == []
        assert ws.history.list(parent=parent_of(ws), limit=None) == []
        assert [*ws.history.paths.trials.iterdir()] == []
        assert [*(ws.history.paths.folder / "arrays").iterdir()] == []
        assert len(submit(ws, [{"rate": n} for n in range(6)], limit=2)) == 6
        assert len(slurm.submitted) == 2
        assert verify(ws.history.paths, LocalShell()).findings == []


def test_one_that_was_looked_at_stays_as_refused(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a record; the others are gone, and so is its key."""
    slurm = use(ws)

    def looked_at(request: JobRequest) -> str:
        ws.history.get(request.run_id)
        raise SubmissionPostponed("not now")

    monkeypatch.setattr(slurm, "submit", looked_at)
    with pytest.raises(SubmissionPostponed):
        submit(ws, [{"rate": n} for n in range(3)])
    [row] = ws.history.list(parent=parent_of(ws), limit=None)
    assert (row.state, row.reason, row.key) == (RunState.FAILED, "Rejected", None)


@pytest.mark.parametrize("step", ["withdraw", "forget"])
def test_killed_while_it_takes_them_back(ws: Workspace, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks next goes on with that, and submits none of them."""
    slurm = use(ws, Slurm(answers=[SubmissionPostponed("not now")]))
    with monkeypatch.context() as patch:
        patch.setattr(Trials, step, killed)
        with pytest.raises(KeyboardInterrupt):
            submit(ws, [{"rate": n} for n in range(3)])
    refresh(ws.history, ws.targets)
    assert slurm.submitted == [] and ws.history.list(parent=parent_of(ws), limit=None) == []
    assert len(submit(ws, [{"rate": n} for n in range(3)])) == 3 and len(slurm.submitted) == 1


def killed(*more: Any) -> None:
    raise KeyboardInterrupt


def test_refused(ws: Workspace) -> None:
    """All of them have failed, nothing is left to be sent, and their keys are free."""
    use(ws, Slurm([SubmissionRejected("no such partition", hint="ask for another")]))
    with pytest.raises(SubmissionRejected, match="no such partition"):
        submit(ws, [{"rate": 1}, {"rate": 2}])
    rows = ws.history.list(parent=parent_of(ws))
    assert {(row.state, row.reason, row.key) for row in rows} == {(RunState.FAILED, "Rejected", None)}
    record = ws.history.get(rows[0].id)
    assert record.submission["hint"] == "ask for another" and record.message == "no such partition"
    assert verify(ws.history.paths, LocalShell()).findings == []
    use(ws)
    assert len(submit(ws, [{"rate": 1}, {"rate": 2}])) == 2


def test_an_answer_that_is_lost_is_looked_for(ws: Workspace) -> None:
    slurm = use(ws, Slurm([SubmissionAmbiguous("lost")]))
    ids = submit(ws, [{"rate": 1}, {"rate": 2}])
    assert [request.token for request in slurm.submitted] == ["1"]  # certain that there was none: once more
    assert [ws.history.get(run_id).job_id for run_id in ids] == ["101_0", "101_1"]


def test_canceled_before_and_after(ws: Workspace) -> None:
    """One that was not sent yet is not sent; of one that waits, its task alone is canceled."""
    slurm = use(ws)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hpcrun.engine.tables.Submission.step", lambda self: False)
        ids = submit(ws, [{"rate": n} for n in range(3)])
        assert cancel(ws.history, ws.targets, ids[1]).state is RunState.CANCELED
    refresh(ws.history, ws.targets)
    assert [request.array for request in slurm.submitted] == ["0,2"]
    assert [row.job_id for row in reversed(ws.history.list(parent=parent_of(ws)))] == ["101_0", None, "101_2"]
    assert cancel(ws.history, ws.targets, ids[2]).state is RunState.CANCEL_REQUESTED
    assert [(job.array, job.job_id) for job in slurm.canceled] == [(ids[0], "101_2")]
    assert [has_record(ws, run_id) for run_id in ids] == [False, True, True]


def test_deleted_one_by_one(ws: Workspace) -> None:
    """What the others are made from stays as long as one is left, and their snapshot too."""
    slurm = use(ws)
    ids = submit(ws, [{"rate": n} for n in range(2)])
    common, there = ws.history.paths.table(ids[0]).folder, slurm.submitted[0].run_dir
    used = snapshots_in_use(ws.history)
    assert len(used) == 1 and not any(has_record(ws, run_id) for run_id in ids)
    task(ws, slurm.submitted[0], 0)
    slurm.words = dict.fromkeys(ids, "CANCELLED")
    refresh(ws.history, ws.targets)
    for run_id in ids:
        assert ws.history.get(run_id).state.final
        assert common.exists() and there.exists()
        [doom], _ = doomed(ws.history, run_ids=[run_id])
        delete(ws.history, ws.targets, doom)
    assert not common.exists() and not there.exists()
    assert verify(ws.history.paths, LocalShell()).findings == []


@pytest.mark.parametrize("lost", [False, True])
def test_a_rebuild_keeps_them(ws: Workspace, lost: bool) -> None:
    """With number, key, job and parameters, whether the index is there or gone; not one that was deleted."""
    slurm = use(ws)
    ids = submit(ws, [{"rate": n, "kind": "a"} for n in range(4)])
    slurm.words = {ids[0]: "CANCELLED"}
    refresh(ws.history, ws.targets)
    [doom], _ = doomed(ws.history, run_ids=ids[:1])
    delete(ws.history, ws.targets, doom)
    ws.history.get(ids[1])
    before = ws.history.list(limit=None)
    ws.history.close()
    paths = ws.history.paths
    if lost:
        paths.database.unlink()
    assert rebuild(paths).left == {}
    with History.open(paths.folder) as history:
        rows = history.list(limit=None)
        assert [row._replace(reason="") for row in rows] == [row._replace(reason="") for row in before]
        assert [history.paths.run(run_id).record.exists() for run_id in ids[2:]] == [False, False]
        assert history.get(ids[3]).parameters == {"rate": 3, "kind": "a"}
    assert verify(paths, LocalShell()).findings == []


def test_a_table_that_is_damaged(ws: Workspace) -> None:
    """It is said of its trials, and keeps nobody from the others."""
    slurm = use(ws)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hpcrun.engine.tables.Submission.step", lambda self: False)
        ids = submit(ws, [{"rate": n} for n in range(2)])
    common = ws.history.paths.table(ids[0])
    common.table.write_text("{")
    with made(ws.history.paths.folder.parent.parent) as again:
        use(again, slurm)
        assert "not a table of trials" in refresh(again.history, again.targets).trouble[ids[0]]
        with pytest.raises(HistoryError, match="not a table of trials"):
            again.history.get(ids[1])
        found = verify(again.history.paths, LocalShell()).findings
        assert [(finding.what, finding.where) for finding in found] == [("table", ids[0])]
        assert len(again.history.list(parent=parent_of(again))) == 2 and slurm.submitted == []


# -- killed --------------------------------------------------------------------------------------

STEPS = {
    "before the transaction": ("hpcrun.history.trials", "write_table", "before"),
    "in the transaction": ("hpcrun.history.trials", "write_table", "after"),
    "after it": ("hpcrun.history.trials", "Trials.create", "after"),
    "with half a folder": ("hpcrun.snapshot", "SnapshotStore.check_out", "after"),
    "with the folder": ("hpcrun.places.near", "NearPlace.share", "after"),
    "about to submit": ("hpcrun.engine.tables", "Submission._submit", "before"),
    "submitted, not written down": ("tests.unit.test_trials", "Slurm.submit", "after"),
    "written down": ("hpcrun.history.trials", "Trials.tell", "before"),
    "with the rows": ("hpcrun.history.trials", "Trials.tell", "after"),
}

CHILD = """
import importlib, json, os, sys
from pathlib import Path
folder, where, name, moment = sys.argv[1:]
holder = importlib.import_module(where)
owner, _, attribute = name.rpartition(".")
for part in filter(None, owner.split(".")):
    holder = getattr(holder, part)
original = getattr(holder, attribute)
def killed(*args, **more):
    if moment == "before":
        os.kill(os.getpid(), 9)
    result = original(*args, **more)
    os.kill(os.getpid(), 9)
setattr(holder, attribute, killed)
from tests.unit.test_trials import Noting, made, submit, use
with made(Path(folder)) as ws:
    use(ws, Noting(Path(folder)))
    submit(ws, [{"rate": n} for n in range(3)])
"""


@dataclass
class Noting(Slurm):
    """One whose jobs are known to whoever comes after."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.file = folder / "jobs"
        for line in self.file.read_text().splitlines() if self.file.exists() else []:
            run_id, array = line.split()
            self.submitted.append(JobRequest(run_id, folder, array=array))
            self.last += 1

    def submit(self, request: JobRequest) -> str:
        with self.file.open("a") as file:
            file.write(f"{request.run_id} {request.array}\n")
        return super().submit(request)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_whoever_submits_is_killed(tmp_path: Path, step: tuple[str, str, str]) -> None:
    """Whoever comes next has all of them sent, once; nobody is sent whose row was not there."""
    with made(tmp_path) as ws:
        parent_of(ws)
    argv = [sys.executable, "-c", CHILD, str(tmp_path), *step]
    done = subprocess.run(argv, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60)
    assert done.returncode == -9, done.stderr
    with made(tmp_path) as ws:
        slurm = use(ws, Noting(tmp_path))
        for _ in range(4):  # certain that there is no job, then that there still is none, then again
            assert refresh(ws.history, ws.targets).trouble == {}
        rows = ws.history.list(parent=parent_of(ws), limit=None)
        assert len(rows) == (0 if step[1] == "write_table" else 3)
        ids = submit(ws, [{"rate": n} for n in range(3)])
        assert [request.array for request in slurm.submitted] == ["0-2"]
        assert [ws.history.get(run_id).job_id for run_id in ids] == ["101_0", "101_1", "101_2"]
        assert {ws.history.get(run_id).state for run_id in ids} == {RunState.QUEUED}


TOGETHER = """
import sys
from pathlib import Path
from tests.unit.test_trials import Noting, made, submit, use
with made(Path(sys.argv[1])) as ws:
    use(ws, Noting(Path(sys.argv[1])))
    print("ready", flush=True)
    sys.stdin.readline()
    print(*submit(ws, [{"rate": n} for n in range(20)]))
"""


def test_many_processes_at_once(tmp_path: Path) -> None:
    """All name the same runs, which one of them has submitted."""
    with made(tmp_path) as ws:
        parent_of(ws)
    argv = [sys.executable, "-c", TOGETHER, str(tmp_path)]
    at = Path(__file__).parents[2]
    processes = [
        subprocess.Popen(argv, cwd=at, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    said = {process.communicate("\n", timeout=120)[0] for process in processes}
    assert len(said) == 1 and len(said.pop().split()) == 20
    assert len((tmp_path / "jobs").read_text().splitlines()) == 1


@pytest.mark.parametrize("moment", ["touch", "write_atomically", "index.replace"])
def test_killed_while_a_record_is_made(ws: Workspace, moment: str) -> None:
    """Before run.json, or with the row that is undone: it is made, and what comes next reaches it."""
    slurm = use(ws)

    def stop(*words: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hpcrun.engine.tables.Submission.step", lambda self: False)
        ids = submit(ws, [{"rate": n} for n in range(3)])
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"hpcrun.history.trials.{moment}", stop)
        ws.history.get(ids[1])
    refresh(ws.history, ws.targets)
    assert [request.array for request in slurm.submitted] == ["0-2"]
    with made(ws.history.paths.folder.parent.parent) as again:
        assert [again.history.get(run_id).job_id for run_id in ids] == ["101_0", "101_1", "101_2"]
        assert {row.job_id for row in again.history.list(tags={"kind": "trial"})} == {
            "101_0",
            "101_1",
            "101_2",
        }
        assert verify(again.history.paths, LocalShell()).findings == []
