"""Runs that are queued again, and a run's own limit: for real on this machine, and with Slurm played.

scontrol, squeue, scancel and srun are scripts here that answer what a test wants answered; the real ones
are asked in tests/integration/test_slurm_requeue.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Experiment, Requeue, Resources, Run, ScriptRunConfig, Workspace
from hpcrun.engine.decide import LOST_GRACE, Verdict
from hpcrun.engine.wait import wait
from hpcrun.history.record import RunRecord
from hpcrun.models.layout import layout
from hpcrun.places import lib
from hpcrun.render import render_script, slurm_directives
from hpcrun.states import RunState
from tests.engine_help import PATIENCE, install, job, slurm_site, until, workspace
from tests.far_help import SCRIPT, Far, present
from tests.unit.test_decide import BAD, ENDED, WELL, R, S, verdict

TRAP = "trap 'echo saved; exit 0' USR2; echo attempt $HPCRUN_ATTEMPT; while :; do sleep 0.02; done"


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with workspace(tmp_path / "ws") as made:
        yield made


def submit(ws: Workspace, text: str, **more: Any) -> Run:
    folder = ws.folder / "source"
    folder.mkdir(exist_ok=True)
    return Experiment(ws, "exp").submit(ScriptRunConfig(folder, command=text, **more))


def at_its_end(ws: Workspace, run: Run) -> RunRecord:
    return wait(ws.history, ws.targets, run.id, timeout=PATIENCE)


def printed(run: Run) -> list[str]:
    log = run.folder / "user_logs" / "std_log.txt"
    lines = log.read_text().splitlines() if log.exists() else []
    return [line for line in lines if "signal" not in line and "Terminated" not in line]


# On this machine, with real processes.


def test_told_before_its_time_is_over_it_saves_and_begins_anew(ws: Workspace) -> None:
    again = {"requeue": Requeue(on=["timeout"], max=1, signal="USR2@4"), "resources": Resources(time="8s")}
    run = submit(ws, TRAP, **again)
    record = at_its_end(ws, run)
    assert printed(run) == ["attempt 1", "saved", "attempt 2", "saved"]
    assert (record.state, record.reason) == (RunState.FAILED, "Timeout"), "max is kept"
    assert [attempt["number"] for attempt in record.attempts] == [1, 2]


def test_one_that_goes_on_is_ended_and_begins_anew(ws: Workspace) -> None:
    text = "trap 'echo told' USR2; echo attempt $HPCRUN_ATTEMPT; "
    text += "while [ $HPCRUN_ATTEMPT = 1 ]; do sleep 0.02; done"
    run = submit(ws, text, requeue=Requeue(on=["timeout"], signal="USR2@4"), resources=Resources(time="8s"))
    record = at_its_end(ws, run)
    assert (record.state, printed(run)) == (RunState.COMPLETED, ["attempt 1", "told", "attempt 2"])


def test_a_secret_is_there_for_every_attempt(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """And for none after the last."""
    monkeypatch.setenv("TOKEN", "canary")
    text = "trap 'exit 0' USR2; [ \"$TOKEN\" = canary ] && echo attempt $HPCRUN_ATTEMPT knows; "
    text += "while [ $HPCRUN_ATTEMPT = 1 ]; do sleep 0.02; done"
    again = {"requeue": Requeue(on=["timeout"], signal="USR2@4"), "resources": Resources(time="8s")}
    run = submit(ws, text, secrets={"TOKEN": "env:TOKEN"}, **again)
    assert at_its_end(ws, run).state is RunState.COMPLETED
    assert printed(run) == ["attempt 1 knows", "attempt 2 knows"]
    assert not (Path(run.record.run_dir) / "secrets.sh").exists()


def test_between_two_attempts_it_is_queued_and_can_be_canceled(ws: Workspace) -> None:
    cpus = len(os.sched_getaffinity(0))
    more = {"resources": Resources(time="8s", cpus_per_task=cpus)}
    first = submit(ws, TRAP, requeue=Requeue(on=["timeout"], signal="USR2@4"), **more)
    until(lambda: "attempt 1" in printed(first))
    second = submit(ws, "sleep 1000", resources=Resources(cpus_per_task=cpus))
    until(lambda: first.get_status() == "Queued")
    assert first.record.reason == "Requeued"
    until(lambda: second.get_status() == "Running")
    first.cancel()
    record = at_its_end(ws, first)
    assert (record.state, record.reason, len(record.attempts)) == (RunState.CANCELED, "Canceled", 1)
    second.cancel()
    at_its_end(ws, second)


def test_a_canceled_run_is_not_queued_again(ws: Workspace) -> None:
    run = submit(ws, TRAP, requeue=Requeue(), resources=Resources(time="10m"))
    until(lambda: "attempt 1" in printed(run))
    run.cancel()
    record = at_its_end(ws, run)
    assert (record.state, record.reason, len(record.attempts)) == (RunState.CANCELED, "Canceled", 1)


def test_the_runs_own_limit_counts_all_its_attempts(ws: Workspace) -> None:
    """Two attempts of two seconds each, and the third has what is left."""
    run = submit(
        ws,
        TRAP,
        requeue=Requeue(on=["timeout"], max=9, signal="USR2@1"),
        resources=Resources(time="3s"),
        max_run_duration_seconds=6,
    )
    record = at_its_end(ws, run)
    assert (record.state, record.reason) == (RunState.CANCELED, "Timeout")
    assert record.message == "the run may run for 6 seconds in all"
    assert 2 <= len(record.attempts) <= 4
    assert run.folder.joinpath("system_logs/elapsed.1").read_text().strip() in ("2", "3")


def test_the_runs_own_limit_alone(ws: Workspace) -> None:
    run = submit(
        ws, "trap 'echo saved; exit 0' TERM; while :; do sleep 0.02; done", max_run_duration_seconds=1
    )
    record = at_its_end(ws, run)
    assert (record.state, record.reason) == (RunState.CANCELED, "Timeout")
    assert printed(run) == ["saved"]


def test_it_brings_along_what_scripts_use(ws: Workspace) -> None:
    """For an interpreter that has no hpcrun; a run that has no use for it brings nothing."""
    code = "from hpcrun import tracking; print(tracking.__file__, tracking.restart_count())"
    run = submit(ws, f"{sys.executable} -S -c '{code}'", requeue=Requeue())
    assert at_its_end(ws, run).state is RunState.COMPLETED
    assert printed(run) == [f"{run.folder}/lib/hpcrun/tracking.py 0"]
    plain = submit(ws, "true")
    at_its_end(ws, plain)
    assert not (plain.folder / "lib").exists()


@pytest.mark.parametrize("kind", present())
def test_it_brings_it_along_to_another_machine(kind: str, tmp_path: Path) -> None:
    far = Far(tmp_path, kind)
    record = far.record()
    assert not (far.fill(record) / "lib").exists()
    folder = far.fill(using(far))
    for name, text in lib.files().items():
        assert (folder / "lib" / name).read_text() == text
        assert (folder / "lib" / name).stat().st_mode & 0o777 == 0o600
    assert (folder / "job.sh").read_text() == using(far).submission["script"]


def using(far: Far) -> RunRecord:
    """A run whose script uses hpcrun."""
    record = far.record()
    record.submission["script"] = f'{SCRIPT}export PYTHONPATH="$HPCRUN_RUN_DIR/lib"\n'
    return record


@pytest.mark.parametrize("kind", present())
def test_it_is_sent_once(kind: str, tmp_path: Path) -> None:
    """To a site, that is; and again if something of it was changed or lost there."""
    far = Far(tmp_path, kind)
    kept, modules = lib.packed()

    def fill() -> tuple[int, int]:
        """Questions, and how often the modules were among what was sent."""
        del far.shell.asked[:]
        record = using(far)
        (Path(record.run_dir) / ".lib.cut-off").mkdir(parents=True)
        folder = far.fill(record)
        for name, text in lib.files().items():
            assert (folder / "lib" / name).read_text() == text
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]
        return len(far.shell.asked), sum(modules in words for words in far.shell.asked)

    assert fill()[1] == 1
    far.place = far.new_place()
    assert fill() == (1, 0)
    (far.root / "lib" / kept / "hpcrun/tracking.py").write_text("changed")
    assert fill() == (2, 1)
    assert fill() == (1, 0)
    (far.root / "lib" / f"{kept}.sum").unlink()
    assert fill() == (2, 1)
    (far.root / "lib" / kept / "hpcrun/tracking.py").unlink()
    far.place = far.new_place()
    assert fill() == (2, 1)
    assert sorted(path.name for path in (far.root / "lib").iterdir()) == [kept, f"{kept}.sum"]


# Under Slurm, played.

SCONTROL = """\
#!/bin/bash
[ "$1" != show ] || sleep "${SLOW:-0}"
case $1 in
    show) cat "$FACTS" ;;
    *) echo "$@" >>"$CALLS" ;;
esac
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    programs = tmp_path / "programs"
    programs.mkdir()
    scripts = {
        "scontrol": SCONTROL,
        "squeue": '#!/bin/bash\ndate -d "@$(($(date +%s) + ${LEFT:-20}))" +%Y-%m-%dT%H:%M:%S\n',
        "scancel": '#!/bin/bash\necho scancel "$@" >>"$CALLS"\nexit 1\n',
        "srun": '#!/bin/bash\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n',
    }
    for name, text in scripts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (tmp_path / "facts").write_text("JobId=7 Restarts=0 Reason=None PreemptTime=None\n")
    (tmp_path / "calls").touch()
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "FACTS": str(tmp_path / "facts"),
        "CALLS": str(tmp_path / "calls"),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "n1",
    }


def begun(folder: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    log = (folder / "system_logs" / "job.txt").open("ab")
    process = subprocess.Popen(
        ["bash", folder / "job.sh"], env={**os.environ, **env}, stdout=log, stderr=log, start_new_session=True
    )
    log.close()
    until(lambda: (folder / "code" / "outputs" / "ready").exists())
    return process


def script(folder: Path, text: str, **more: Any) -> Path:
    made = ScriptRunConfig(".", command=text, **more)
    return install(job(folder, made, slurm_site()), {})


def words(folder: Path) -> tuple[str, int | None]:
    raw = json.loads((folder / "status.json").read_text())
    return raw["state"], raw["exit_code"]


def calls(slurm: dict[str, str]) -> list[str]:
    return Path(slurm["CALLS"]).read_text().splitlines()


WAITS = "trap 'echo saved; exit 0' USR2; touch outputs/ready; while :; do sleep 0.02; done"
AGAIN = ["update jobid=7 requeue=1", "requeue 7"]


@pytest.mark.parametrize("slow", ["0", "1.5"])
def test_it_asks_to_be_queued_again_however_slow_slurm_is(
    slow: str, tmp_path: Path, slurm: dict[str, str]
) -> None:
    """A trap that waits for Slurm is cut off by bash in its middle."""
    folder = script(tmp_path / "run", WAITS, requeue=Requeue(on=["timeout"], signal="USR2@30"))
    process = begun(folder, {**slurm, "SLOW": slow})
    process.send_signal(signal.SIGUSR2)
    process.wait(PATIENCE)
    assert (words(folder), calls(slurm)) == (("requeued", 0), AGAIN)


def test_a_signal_by_hand_is_no_time_limit(tmp_path: Path, slurm: dict[str, str]) -> None:
    folder = script(tmp_path / "run", WAITS, requeue=Requeue(on=["timeout"], signal="USR2@30"))
    process = begun(folder, {**slurm, "LEFT": "1000"})
    process.send_signal(signal.SIGUSR2)
    assert process.wait(PATIENCE) == 0
    assert (words(folder), calls(slurm)) == (("completed", 0), [])


@pytest.mark.parametrize(
    ("facts", "called", "state"),
    [
        ("Restarts=0 Reason=None PreemptTime=2026-01-31T12:00:00", AGAIN, "requeued"),
        ("Restarts=1 Reason=None", [], "requeued"),
        ("Restarts=0 Reason=TimeLimit", AGAIN, "requeued"),
        ("Restarts=0 Reason=None", [], "failed"),
    ],
)
def test_what_slurm_says_when_term_comes(
    facts: str, called: list[str], state: str, tmp_path: Path, slurm: dict[str, str]
) -> None:
    """Canceled by its user, a job has no mark at all."""
    Path(slurm["FACTS"]).write_text(f"JobId=7 {facts} \n")
    folder = script(tmp_path / "run", WAITS, requeue=Requeue())
    process = begun(folder, slurm)
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(PATIENCE)
    assert (words(folder)[0], calls(slurm)) == (state, called)


def test_the_payload_alone_may_have_been_told(tmp_path: Path, slurm: dict[str, str]) -> None:
    """By a partition with a grace: its TERM goes to the steps, and a good exit code is not the end."""
    folder = script(tmp_path / "run", "touch outputs/ready; sleep 1", requeue=Requeue(on=["preempted"]))
    Path(slurm["FACTS"]).write_text("JobId=7 Restarts=0 Reason=None PreemptTime=2026-01-31T12:00:00 \n")
    process = begun(folder, slurm)
    process.wait(PATIENCE)
    assert (words(folder), calls(slurm)) == (("requeued", 0), AGAIN)


def test_the_last_attempt_ends_as_what_it_was(tmp_path: Path, slurm: dict[str, str]) -> None:
    """And turns Slurm's own switch off as it begins."""
    folder = script(tmp_path / "run", WAITS, requeue=Requeue(max=1, signal="USR2@30"))
    line = {"attempt": 1, "ended": ENDED}
    (folder / "system_logs" / "attempts.jsonl").write_text(json.dumps(line, separators=(",", ":")) + "\n")
    process = begun(folder, {**slurm, "SLURM_RESTART_COUNT": "1"})
    Path(slurm["FACTS"]).write_text("JobId=7 Restarts=1 Reason=None PreemptTime=None \n")
    assert calls(slurm) == ["update jobid=7 requeue=0"]
    process.send_signal(signal.SIGUSR2)
    assert process.wait(PATIENCE) == 143
    assert (words(folder), calls(slurm)) == (("timeout", 143), ["update jobid=7 requeue=0"])


@pytest.mark.parametrize(
    ("said", "on", "state"),
    [
        ("slurmstepd: *** JOB 7 CANCELLED DUE TO PREEMPTION ***", "node_fail", "preempted"),
        ("slurmstepd: *** JOB 7 CANCELLED DUE TO NODE FAILURE, SEE ***", "preempted", "node_fail"),
        ("", "preempted", "node_fail"),
    ],
)
def test_a_cause_that_was_not_asked_for(
    said: str, on: str, state: str, tmp_path: Path, slurm: dict[str, str]
) -> None:
    """Slurm has one switch for both: the next attempt sees what the one before ended for, and leaves."""
    folder = script(tmp_path / "run", "touch outputs/ready", requeue={"on": [on]})
    (folder / "system_logs" / "job.txt").write_text(f"hpcrun: attempt 1 of x\n{said}\n")
    (folder / "system_logs" / "attempts.jsonl").write_text('{"attempt":1,"ended":null}\n')
    env = {**os.environ, **slurm, "SLURM_RESTART_COUNT": "1"}
    done = subprocess.run(
        ["bash", folder / "job.sh"], env=env, capture_output=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, words(folder)[0]) == (105, state)
    assert not (folder / "code/outputs/ready").exists()


def test_one_that_was_canceled_just_now_is_not_brought_back(tmp_path: Path, slurm: dict[str, str]) -> None:
    """Slurm would: it takes requeues of jobs that have ended, but no change of their switch."""
    text = (
        '#!/bin/bash\n[ "$1" != show ] || { cat "$FACTS"; exit; }\necho "$@" >>"$CALLS"\n[ "$1" = requeue ]\n'
    )
    (tmp_path / "programs" / "scontrol").write_text(text)
    folder = script(tmp_path / "run", WAITS, requeue=Requeue(signal="USR2@30"))
    process = begun(folder, slurm)
    process.send_signal(signal.SIGUSR2)
    process.wait(PATIENCE)
    assert calls(slurm) == [AGAIN[0]] * 3


def test_what_cannot_be_queued_again_ends_as_what_it_was(tmp_path: Path, slurm: dict[str, str]) -> None:
    (tmp_path / "programs" / "scontrol").write_text('#!/bin/bash\n[ "$1" = show ] && cat "$FACTS"\n')
    folder = script(tmp_path / "run", WAITS, requeue=Requeue(signal="USR2@30"))
    process = begun(folder, slurm)
    process.send_signal(signal.SIGUSR2)
    assert process.wait(PATIENCE) == 143
    assert words(folder)[0] == "timeout"
    assert "it could not be queued again" in (folder / "system_logs/job.txt").read_text()


# What is asked of Slurm.


def directives(**more: Any) -> list[str]:
    config = ScriptRunConfig(".", command="true", **more)
    made = job("/r/x", config, slurm_site(scheduler={"sbatch": {"requeue": True, "signal": "INT@5"}}))
    lines = [str(line).removeprefix("#SBATCH --") for line in slurm_directives(made, layout(config))]
    return [line for line in lines if line.startswith(("requeue", "no-requeue", "signal", "time"))]


def test_the_directives() -> None:
    """The run's own words beat the site's."""
    assert directives() == ["requeue", "signal=INT@5"]
    assert directives(requeue={"on": ["timeout"]}) == ["signal=B:USR2@180", "no-requeue"]
    assert directives(requeue={"on": "node_fail"}) == ["requeue", "signal=B:USR2@180"]
    # Where the limit is the run's own, the script says when it is near.
    capped = directives(requeue={"on": "preempted"}, max_run_duration_seconds=600)
    assert capped == ["time=00:10:00", "requeue"]
    longer = {"requeue": Requeue(), "max_run_duration_seconds": 7200}
    assert directives(**longer) == ["requeue", "signal=B:USR2@180"], "its attempts have the partition's limit"
    assert directives(**longer, resources=Resources(time="1h"))[0] == "time=01:00:00"


def test_the_shell_of_a_command_waits_for_what_it_started() -> None:
    text = render_script(job("/r/x", ScriptRunConfig(".", command="a && b", requeue={"signal": "USR1@9"})))
    assert """bash -o pipefail -c 'trap : USR1; trap "exit 143" TERM; a && b'""" in text


# What is made of it.


def test_an_attempt_that_is_queued_again_is_no_end() -> None:
    requeued = replace(WELL, state="requeued", signal="USR2", message="timeout: queued again")
    assert verdict("RUNNING", requeued) == Verdict(S.RUNNING, R.NONE)
    assert verdict("COMPLETING", requeued) == Verdict(S.FINALIZING, R.NONE)
    assert verdict("PENDING", requeued, why="BeginTime") == Verdict(S.QUEUED, "BeginTime")
    assert verdict(None, requeued, queue=False, answered=False) is None
    assert verdict(None, replace(requeued, signal=""), unseen=60) is None
    lost = verdict(None, requeued, unseen=LOST_GRACE + 1)
    assert lost is not None and lost.reason == R.LOST


@pytest.mark.parametrize("word", ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", None])
def test_the_job_knows_best_why_it_was_ended(word: str | None) -> None:
    for said, end in {
        "exceeded": (S.CANCELED, R.TIMEOUT),
        "timeout": (S.FAILED, R.TIMEOUT),
        "preempted": (S.FAILED, R.PREEMPTED),
        "node_fail": (S.FAILED, R.NODE_FAIL),
    }.items():
        found = verdict(word, replace(BAD, state=said))
        assert found is not None and (found.state, found.reason) == end
    assert verdict("RUNNING", replace(BAD, state="exceeded")) == Verdict(S.RUNNING, R.NONE)
    asked = verdict("CANCELLED", replace(BAD, state="timeout"), state=S.CANCEL_REQUESTED)
    assert asked is not None and (asked.state, asked.reason) == (S.CANCELED, R.CANCELED)
