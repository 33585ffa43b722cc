"""Job arrays in Slurm's text, and in the script that all tasks of one begin with."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.errors import CommandError
from hpcrun.launchers.tasks import array_script, shared_directives
from hpcrun.schedulers.base import JobRef, JobRequest
from hpcrun.schedulers.sbatch import sbatch_command
from hpcrun.schedulers.slurm import SlurmScheduler, cancel_command, cancel_commands, check_canceled
from hpcrun.schedulers.slurmarrays import array_spec, base_id, spread, task_ids
from hpcrun.schedulers.slurmtext import parse_sacct, parse_squeue
from hpcrun.shells.base import Result
from hpcrun.shells.local import LocalShell
from tests.unit.test_slurm_query import NOT_SAID, SINCE, FakeShell

LEADER = "many_20260131-120000_abcdefgh"
RUNS = [LEADER, "run1", "run2", "run3"]
TASKS = [JobRef(run, "/runs", f"7_{index}", SINCE, LEADER, index) for index, run in enumerate(RUNS)]


@pytest.mark.parametrize(
    ("indices", "limit", "spec"),
    [
        ([0], None, "0"),
        ([0, 1, 2, 3], 2, "0-3%2"),
        ([5, 0, 1, 3], None, "0-1,3,5"),
        ([0, 1, 1, 2, 9], 1, "0-2,9%1"),
    ],
)
def test_the_tasks_as_sbatch_takes_them(indices: list[int], limit: int | None, spec: str) -> None:
    assert array_spec(indices, limit) == spec


@given(st.sets(st.integers(0, 3000), min_size=1))
def test_what_sbatch_takes_is_what_squeue_gives_back(indices: set[int]) -> None:
    assert task_ids(f"7_[{array_spec(indices, 3)}]") == ("7", sorted(indices))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("7_3", ("7", [3])),
        ("7_[0-6:2,9%3]", ("7", [0, 2, 4, 6, 9])),
        *(
            (text, None)
            for text in ("7", "7_", "7_x", "7_[", "7_[]", "7_[1-]", "7_3.batch", "7_[0-99999999]", "")
        ),
    ],
)
def test_ids_of_tasks(text: str, found: object) -> None:
    assert task_ids(text) == found
    assert base_id("7_3") == "7" and base_id("7") == "7"


def test_a_line_on_an_array_is_one_on_each_run() -> None:
    squeue = (
        f"7_[2-3%1]|PENDING|t|t|t|JobArrayTaskLimit||{LEADER}\n"
        f"7_0|RUNNING|t|t|t|None|n1|{LEADER}\n7_9|RUNNING|t|t|t|None|n1|{LEADER}\n"
        f"6|RUNNING|t|t|t|None|n1|{LEADER}\n9|RUNNING|t|t|t|None|n1|alone\n"
    )
    wanted = [*TASKS, JobRef("alone", "/runs", "9", SINCE)]
    facts = parse_squeue(spread(squeue, wanted), [job.run_id for job in wanted])
    assert {run: found.job_id for run, found in facts.items()} == {
        LEADER: "7_0",
        "run2": "7_2",
        "run3": "7_3",
        "alone": "9",
    }
    assert facts["run3"].why == "JobArrayTaskLimit"
    assert spread(squeue, [JobRef("alone", "/runs", "9", SINCE)]) == squeue


def test_what_the_steps_of_a_task_took_is_its_runs() -> None:
    time = "2026-01-31T12:00:00"
    line = f"7_1|COMPLETED|0:0|{time}|{time}|{time}|n1|1|00:01|2|1|100M|||{LEADER}\n"
    step = f"7_1.batch|COMPLETED|0:0|{time}|{time}|{time}|n1|1|00:01|2|1||4K|mem=4K|batch\n"
    facts = parse_sacct(spread(line + step, TASKS), {job.run_id: job.job_id for job in TASKS})
    assert set(facts) == {"run1"} and facts["run1"].job_id == "7_1"
    assert facts["run1"].usage is not None and facts["run1"].usage["max_rss_bytes"] == 4096


@given(st.text())
def test_no_text_makes_it_fail(text: str) -> None:
    spread(f"{text}|{LEADER}\n{text}", TASKS)
    task_ids(text)


def test_one_question_for_all_tasks_of_an_array() -> None:
    shell = FakeShell(sacct=f"7_3|COMPLETED|0:0|t|t|t|n1{NOT_SAID}|{LEADER}\n")
    many = [JobRef(f"run{index}", "/runs", f"7_{index}", SINCE, LEADER, index) for index in range(5000)]
    answer = SlurmScheduler(shell).query(many)
    assert set(answer.facts) == {"run3"}
    squeue, sacct = shell.asked
    assert "--array" in squeue and "--array" not in sacct, "which Slurm 22.05 does not know"
    assert f"--name={LEADER}" in sacct and "--jobs=7" in sacct


def test_a_task_is_canceled_alone() -> None:
    """Its name is that of all, and by that alone all would end."""
    assert cancel_command("me", TASKS[2]) == ["scancel", "--user=me", f"--name={LEADER}", "7_2"]
    assert cancel_command("me", JobRef("run2", "/runs", None, SINCE, LEADER, 2)) == []
    assert cancel_command("me", JobRef("run2", "/runs", None, SINCE)) == [
        "scancel",
        "--user=me",
        "--name=run2",
    ]


def test_many_tasks_are_canceled_by_few_commands() -> None:
    """Those of one array together, jobs of their own one by one; not what has no id yet."""
    tasks = [JobRef(f"run{n}", "/runs", f"7_{n}", SINCE, LEADER, n) for n in range(1200)]
    jobs = [*tasks, JobRef("other", "/runs", "8", SINCE), JobRef("new", "/runs", None, SINCE, LEADER, 9999)]
    told = cancel_commands("me", jobs)
    assert len(told) == 3 and told[-1] == ("other", ["scancel", "--user=me", "--name=other"])
    head = ["scancel", "--user=me", f"--name={LEADER}"]
    assert all(argv[:3] == head and len(argv) <= 1000 for _, argv in told[:2])
    assert [word for _, argv in told[:2] for word in argv[3:]] == [f"7_{n}" for n in range(1200)]


def test_that_a_task_has_ended_is_no_refusal() -> None:
    """Slurm does not know one any more that was canceled while it waited; any other no is one."""
    gone = "scancel: error: Kill job error on job id 7_3: Invalid job id specified\n"
    check_canceled(Result(("scancel",), 1, "", gone, 0.1), "run")
    for result in (
        Result(("scancel",), 1, "", gone + "scancel: error: Access/permission denied\n", 0.1),
        Result(("scancel",), 1, "", "", 0.1),
        Result(("scancel",), None, "", gone, 0.1),
    ):
        with pytest.raises(CommandError):
            check_canceled(result, "run")


def test_the_command_line() -> None:
    request = JobRequest(LEADER, Path("/r/a%b"), array="0-3%2")
    argv = sbatch_command(request.run_id, str(request.run_dir), array=request.array)
    assert "--array=0-3%2" in argv and "--output=/r/a%%b/%a.txt" in argv and argv[-1] == "/r/a%b/job.sh"


SCRIPT = """\
#!/bin/bash
#SBATCH --job-name=a
#SBATCH --chdir=/x/a
#SBATCH --output="/x/a/system_logs/job.txt"
#SBATCH --open-mode=append
#SBATCH --time=00:05:00
# a title
echo
#SBATCH --too-late
"""


def test_what_runs_of_an_array_share() -> None:
    assert shared_directives(SCRIPT) == ("#SBATCH --open-mode=append", "#SBATCH --time=00:05:00")


def test_each_task_goes_on_with_its_own_script(weird_tmp_path: Path) -> None:
    """Wherever the folders are; a task without one says so."""
    dirs = {}
    for task in (0, 2, 7):
        folder = weird_tmp_path / str(task)
        folder.mkdir()
        (folder / "job.sh").write_text(f'echo {task} "$PWD"\n')
        dirs[task] = str(folder)
    script = weird_tmp_path / "array.sh"
    script.write_text(array_script(SCRIPT, dirs))
    for task, folder_there in dirs.items():
        told = LocalShell().run(["bash", str(script)], timeout=20, env={"SLURM_ARRAY_TASK_ID": str(task)})
        assert told.stdout == f"{task} {folder_there}\n", told.describe()
    (weird_tmp_path / "7/job.sh").unlink()
    (weird_tmp_path / "7").rmdir()
    told = LocalShell().run(["bash", str(script)], timeout=20, env={"SLURM_ARRAY_TASK_ID": "7"})
    assert told.rc == 101
