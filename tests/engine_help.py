"""What the tests of rendering, schedulers and engine share: waiting with a deadline, jobs, workspaces."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from hpcrun import ScriptRunConfig, Workspace
from hpcrun.errors import HpcrunError
from hpcrun.models.site import Site
from hpcrun.render import Job, render_script
from hpcrun.schedulers.base import Answer, JobFacts, JobRef, JobRequest
from hpcrun.shells.base import Result
from hpcrun.shells.local import LocalShell

T = TypeVar("T")

RUN_ID = "test_20260131-120000_abcdefgh"
PATIENCE = 20.0
"""Seconds after which something that should have happened is said not to have happened."""


def until(condition: Callable[[], T], what: str = "", *, seconds: float = PATIENCE) -> T:
    """What ``condition`` gives, once it is true; fails after a while."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what or condition}"
        time.sleep(0.01)


def local_site(**more: Any) -> Site:
    return Site(**{"name": "local", "scheduler": {"type": "local"}, **more})


def slurm_site(**more: Any) -> Site:
    return Site(**{"name": "cluster", **more})


def job(run_dir: Path | str, config: ScriptRunConfig, site: Site | None = None, **more: Any) -> Job:
    """A job named RUN_ID, on this machine unless a site is given."""
    return Job(
        run_id=RUN_ID,
        experiment="test",
        target=(site or local_site()).name,
        run_dir=str(run_dir),
        config=config,
        site=site or local_site(),
        default_python=sys.executable,
        **more,
    )


def install(made: Job, files: Mapping[str, str], templates: list[Path] | None = None) -> Path:
    """A run folder as the engine makes it: the rendered script, and ``files`` in its code folder."""
    folder = Path(made.run_dir)
    for name in ("code", "user_logs", "system_logs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / "code" / name).write_text(text)
    (folder / "job.sh").write_text(render_script(made, templates or []), errors="surrogateescape")
    return folder


def run_script(folder: Path, env: Mapping[str, str] | None = None) -> Result:
    """The job script in ``folder``, run by bash as job 1 (unless ``env`` names another)."""
    variables = {"HPCRUN_JOB_ID": "1", **(env or {})}
    return LocalShell().run(["bash", "--", str(folder / "job.sh")], timeout=PATIENCE, cwd="/", env=variables)


def source(folder: Path, **files: str) -> Path:
    """A source directory; ``train_py="…"`` becomes ``train.py``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


@contextmanager
def workspace(folder: Path) -> Iterator[Workspace]:
    """A workspace whose runs have all ended when the block is left."""
    folder.mkdir(parents=True, exist_ok=True)
    with Workspace(folder) as ws:
        try:
            yield ws
        finally:
            for row in ws.history.active():
                if run_dir := ws.history.get(row.id).run_dir:  # a pipeline has none
                    end(Path(run_dir))


def end(run_dir: Path) -> None:
    """Kill whatever still runs of a local run."""
    for pid in processes_of(run_dir):
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            pass
    until(lambda: not processes_of(run_dir), f"the end of all processes of {run_dir}")


def processes_of(run_dir: Path) -> list[int]:
    """All processes that have the run's folder in their environment or on their command line."""
    # They are about to be killed: no name that others may have as well.
    assert run_dir.is_absolute() and len(run_dir.parts) > 3, f"not the folder of a run: {run_dir}"
    needle, found = os.fsencode(run_dir), []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            text = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if state != "Z" and needle in text:
            found.append(int(folder.name))
    return found


class ScriptedScheduler:
    """Answers as it is told to, in turn; the last answer counts for all that follow.

    A fake, since an answer that is lost at one moment and no other cannot be had from a real scheduler here;
    the tests on the virtual cluster stop a real slurmctld for it.
    """

    def __init__(
        self,
        submits: Sequence[str | HpcrunError] = ("1",),
        queries: Sequence[Answer | HpcrunError] = (Answer(),),
    ) -> None:
        self.submits, self.queries = list(submits), list(queries)
        self.submitted: list[JobRequest] = []
        self.asked: list[list[JobRef]] = []
        self.canceled: list[JobRef] = []

    def submit(self, request: JobRequest) -> str:
        self.submitted.append(request)
        answer = self.submits.pop(0) if len(self.submits) > 1 else self.submits[0]
        if isinstance(answer, HpcrunError):
            raise answer
        return answer

    def query(self, jobs: Sequence[JobRef]) -> Answer:
        self.asked.append(list(jobs))
        answer = self.queries.pop(0) if len(self.queries) > 1 else self.queries[0]
        if isinstance(answer, HpcrunError):
            raise answer
        return replace(answer, facts={job.run_id: f for job in jobs for f in answer.facts.values()})

    def cancel(self, jobs: Sequence[JobRef]) -> None:
        self.canceled += jobs


SILENCE = Answer(queue=False, complete=False, trouble="no answer")


def knows(job_id: str, word: str = "PENDING", **more: Any) -> Answer:
    """An answer that has the job, whatever it is asked about."""
    return Answer({"": JobFacts(job_id, word, **more)})


def use(ws: Workspace, scheduler: ScriptedScheduler) -> ScriptedScheduler:
    """Put a scripted scheduler in the place of this machine's."""
    ws.targets._open["local"] = replace(ws.targets.get("local"), scheduler=scheduler)
    return scheduler
