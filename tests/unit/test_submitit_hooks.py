"""What hpcrun takes hold of in submitit: fails if a release moves it. And what comes out of it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import pytest
import submitit
from submitit.core import core

from hpcrun.errors import CommandError, SubmissionAmbiguous, SubmissionRejected
from hpcrun.schedulers.base import JobRequest
from hpcrun.schedulers.slurm import SBATCH_TIMEOUT, SlurmScheduler
from hpcrun.schedulers.submitit_executor import ScriptExecutor
from hpcrun.shells.base import Result

RUN_ID = "test_20260131-120000_abcdefgh"


class RecordedShell:
    """Answers every command with ``answer``, and keeps what was asked."""

    def __init__(self, answer: Result | Exception) -> None:
        self.answer = answer
        self.asked: list[tuple[list[str], dict[str, Any]]] = []

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | bytes | None = None,
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        keep_fds: Sequence[int] = (),
    ) -> Result:
        self.asked.append((list(argv), {"timeout": timeout, "stdin": stdin, "keep_fds": list(keep_fds)}))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def says(rc: int | None, stdout: str = "", stderr: str = "") -> RecordedShell:
    return RecordedShell(Result(("sbatch",), rc, stdout, stderr, 1.0))


def request_in(folder: Path, lock_fd: int | None = None) -> JobRequest:
    run_dir = folder / "100% it's" / RUN_ID
    (run_dir / "system_logs").mkdir(parents=True, exist_ok=True)
    (run_dir / "job.sh").write_text("#!/bin/bash\n# päth\n")
    return JobRequest(RUN_ID, run_dir, lock_fd=lock_fd)


def submit(shell: RecordedShell, folder: Path, lock_fd: int | None = None) -> str:
    return SlurmScheduler(shell).submit(request_in(folder, lock_fd))


def test_the_range_that_is_allowed_is_the_one_that_is_installed() -> None:
    (pinned,) = [text for text in requires("hpcrun-toolkit") or [] if text.startswith("submitit")]
    bounds = sorted(pinned.removeprefix("submitit").split(","))
    assert [bound.rstrip("0123456789.") for bound in bounds] == ["<", ">="], "pinned from both sides"

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.lstrip("<>=").split("."))

    assert numbers(bounds[1]) <= numbers(version("submitit")) < numbers(bounds[0])


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_hooks_are_where_they_were() -> None:
    base = submitit.SlurmExecutor
    assert issubclass(base, core.PicklingExecutor)
    assert parameters(base.__init__)[:2] == ["self", "folder"]
    assert parameters(base._submit_command) == parameters(ScriptExecutor._submit_command)
    assert parameters(base._make_submission_file_text) == ["self", "command", "uid"]
    assert parameters(base._make_submission_command) == ["self", "submission_file_path"]
    assert parameters(base._get_job_id_from_submission_command) == ["string"]
    assert parameters(base._num_tasks) == ["self"]
    assert isinstance(inspect.getattr_static(base, "_get_job_id_from_submission_command"), staticmethod)
    assert parameters(base.job_class.__init__) == ["self", "folder", "job_id", "tasks"]
    assert isinstance(inspect.getattr_static(base, "affinity"), classmethod)


def test_submitits_own_way_of_submitting_still_goes_through_them() -> None:
    """Should it no longer, then overriding them would no longer be enough."""
    source = inspect.getsource(core.PicklingExecutor._submit_command)
    for hook in ("_make_submission_file_text", "_make_submission_command", "_num_tasks", "job_class"):
        assert hook in source
    assert "_submit_command" in inspect.getsource(core.PicklingExecutor._internal_process_submissions)


def test_what_submitit_would_have_run_is_recognised(tmp_path: Path) -> None:
    executor = ScriptExecutor(request_in(tmp_path), says(0), timeout=1)
    theirs = submitit.SlurmExecutor._make_submission_command(executor, Path("/x.sh"))
    assert theirs == ["sbatch", "/x.sh"]
    assert submitit.SlurmExecutor._get_job_id_from_submission_command("Submitted batch job 12\n") == "12"


def test_identity_goes_on_the_command_line(tmp_path: Path) -> None:
    shell = says(0, "4711\n")
    assert submit(shell, tmp_path, lock_fd=9) == "4711"
    folder = tmp_path / "100% it's" / RUN_ID
    assert shell.asked == [
        (
            [
                "sbatch",
                "--parsable",
                f"--job-name={RUN_ID}",
                f"--chdir={folder}",
                f"--output={tmp_path}/100%% it's/{RUN_ID}/system_logs/job.txt",
                f"{folder}/job.sh",
            ],
            {"timeout": SBATCH_TIMEOUT, "stdin": None, "keep_fds": [9]},
        )
    ]


def test_nothing_is_written_but_by_sbatch(tmp_path: Path) -> None:
    folder = request_in(tmp_path).run_dir
    before = sorted(folder.rglob("*"))
    submit(says(0, "4711\n"), tmp_path)
    assert sorted(folder.rglob("*")) == before
    assert (folder / "job.sh").read_text() == "#!/bin/bash\n# päth\n"


def test_the_job_is_one_of_submitits(tmp_path: Path) -> None:
    executor = ScriptExecutor(request_in(tmp_path), says(0, "4711;cluster\n"), timeout=1)
    job = executor._submit_command("")
    assert isinstance(job, submitit.SlurmJob)
    assert job.job_id == "4711"
    text = executor._make_submission_file_text("ignored", "ignored")
    assert text == "#!/bin/bash\n# päth\n"


@pytest.mark.parametrize(
    "shell",
    [
        says(None),
        says(-9),
        says(1, "", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"),
        says(0, ""),
        says(0, "Submitted batch job 4711\n"),
        says(0, "4711\n4712\n"),
    ],
)
def test_an_answer_that_was_lost(shell: RecordedShell, tmp_path: Path) -> None:
    with pytest.raises(SubmissionAmbiguous):
        submit(shell, tmp_path)
    assert len(shell.asked) == 1, "never again without a look"


@pytest.mark.parametrize(
    ("stderr", "words", "hint"),
    [
        ("sbatch: error: invalid partition specified: x", "invalid partition specified: x", "sinfo -s"),
        (
            "sbatch: error: Unable to contact slurm controller (connect failure)",
            "nothing was submitted",
            "scontrol ping",
        ),
        ("", "gave no reason", None),
    ],
)
def test_a_refusal(stderr: str, words: str, hint: str | None, tmp_path: Path) -> None:
    shell = says(1, "", stderr)
    with pytest.raises(SubmissionRejected) as caught:
        submit(shell, tmp_path)
    assert words in caught.value.message
    assert caught.value.hint is hint is None or (hint is not None and hint in str(caught.value.hint))
    assert [argv[0] for argv, _ in shell.asked].count("sbatch") == 1


def test_where_there_is_no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match="no srun on PATH"):
        submit(says(0), tmp_path)
