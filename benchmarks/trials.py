"""Submitting the trials of a sweep, beside ``submitit.map_array`` of as many; for both, sbatch is a program
that answers at once, so that what is compared is what is done around it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, timed
from benchmarks.rows import folder

_SBATCH = """\
#!/bin/sh
case "$*" in
    *--parsable*) echo 4711 ;;
    *) echo Submitted batch job 4711 ;;
esac
"""
_SITE = "name: cluster\nscheduler: {type: slurm, max_array_size: 100000}\n"


def trials() -> list[Row]:
    with folder() as place, _slurm(place / "bin"):
        (place / "src").mkdir()
        (place / "src/train.py").write_text("print(1)\n")
        return [_row(place, 1_000, 2), _row(place, 10_000, 1)]


def _row(place: Path, count: int, goal: float) -> Row:
    import submitit

    ours, theirs = [], []
    for turn in range(7):
        ours.append(_ours(place, f"{count}-{turn}", count))
        executor = submitit.SlurmExecutor(folder=place / f"theirs-{count}-{turn}")
        executor.update_parameters(array_parallelism=8)
        values = [_parameters(number) for number in range(count)]
        theirs.append(timed(lambda e=executor, v=values: e.map_array(print, v)))  # type: ignore[misc]
    name = f"submitting a sweep of {count:,} trials"
    return Row(name, min(ours), "`submitit.map_array`", min(theirs), goal)


def _parameters(number: int) -> dict[str, Any]:
    return {"lr": number * 1e-5, "layers": number % 7, "kind": "ab"[number % 2]}


def _ours(place: Path, name: str, count: int) -> float:
    """In a workspace of its own; the snapshot is taken as well."""
    from hpcrun import ScriptRunConfig, Workspace
    from hpcrun.engine.trials import Trial, submit_trials
    from hpcrun.history.record import RunRecord, new_run_id

    own = place / name
    (own / "site_configs").mkdir(parents=True)
    (own / "site_configs/cluster.yaml").write_text(_SITE)
    (own / ".hpcrun").mkdir(mode=0o700)
    config = ScriptRunConfig(place / "src", "train.py", compute_target="cluster")
    with Workspace(own) as workspace:
        sweep = RunRecord(
            id=new_run_id("bench"), experiment="bench", type="sweep", target="cluster", scheduler="slurm"
        )
        parent = workspace.history.create(sweep)[0].id
        wanted = [Trial(number, _parameters(number), f"{parent}/{number}") for number in range(count)]

        def submit() -> object:
            return submit_trials(
                workspace.history, workspace.targets, config, wanted,
                parent=parent, experiment="bench", limit=8, tags={},
            )  # fmt: skip

        return timed(submit)


@contextmanager
def _slurm(programs: Path) -> Iterator[None]:
    programs.mkdir()
    for name, text in {"sbatch": _SBATCH, "srun": "#!/bin/sh\n"}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{programs}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before
