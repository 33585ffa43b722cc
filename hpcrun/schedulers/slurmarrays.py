"""Job arrays in Slurm's text: many runs, each a task of one job, which has one name for all. No I/O.

A task's job id is ``A_a``. What Slurm prints of it is put into the words in which it speaks of a job of its
own (the run's id in the place of the job's name), and is then read as all the rest is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from hpcrun.schedulers.base import JobRef

_TASKS = re.compile(r"([0-9]{1,18})_(?:([0-9]{1,9})|\[([0-9,:-]{1,200000})(?:%[0-9]{1,9})?\])")
_PART = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?")
_MOST = 10_000_000


def array_spec(indices: Iterable[int], limit: int | None = None) -> str:
    """What ``--array`` takes: ``0-4,7``, and ``%2`` where no more than two may run at once."""
    ordered = sorted(set(indices))
    parts: list[str] = []
    first = 0
    for at, index in enumerate(ordered):
        if at + 1 == len(ordered) or ordered[at + 1] != index + 1:
            parts.append(str(index) if at == first else f"{ordered[first]}-{index}")
            first = at + 1
    return ",".join(parts) + ("" if limit is None else f"%{limit}")


def task_ids(text: str) -> tuple[str, list[int]] | None:
    """``7_3`` and ``7_[0-5:2,9%3]`` as the array's id and the indices; None for what is no array's."""
    match = _TASKS.fullmatch(text.strip())
    if match is None:
        return None
    base, one, several = match.groups()
    if one is not None:
        return base, [int(one)]
    found: list[int] = []
    for part in several.split(","):
        bounds = _PART.fullmatch(part)
        if bounds is None:
            return None
        low, high = int(bounds[1]), int(bounds[2] or bounds[1])
        if high - low > _MOST:
            return None
        found += range(low, high + 1, int(bounds[3] or 1) or 1)
    return base, found


def base_id(job_id: str) -> str:
    """The id of the whole array, for a task's."""
    return job_id.partition("_")[0]


def names(jobs: Sequence[JobRef]) -> list[str]:
    """The names that these jobs have in Slurm, each once."""
    return list(dict.fromkeys(job.array or job.run_id for job in jobs))


def ids(jobs: Sequence[JobRef]) -> list[str]:
    """Their ids as far as they are known, a whole array's for each of its tasks."""
    found = (base_id(job.job_id) if job.array else job.job_id for job in jobs if job.job_id)
    return list(dict.fromkeys(found))


def spread(stdout: str, jobs: Sequence[JobRef]) -> str:
    """The lines of squeue or sacct (id first, name last) with a line for each task that is asked about, under
    the id of its run; lines on other tasks of these arrays are left out. What is said of a job that runs
    several itself is said of each of them."""
    wanted = {(job.array, job.index): job.run_id for job in jobs if job.array}
    if not wanted:
        return stdout
    arrays = {name for name, _ in wanted}
    packs = {job.array for job in jobs if job.packed}
    return "".join(f"{line}\n" for line in _spread(stdout, wanted, arrays, packs))


def _spread(
    stdout: str, wanted: dict[tuple[str, int], str], arrays: set[str], packs: set[str]
) -> Iterator[str]:
    for line in stdout.splitlines():
        job_id, bar, rest = line.strip().partition("|")
        middle, _, name = rest.rpartition("|")
        if not bar or name not in arrays:
            yield line
            continue
        if name in packs and job_id.isdigit():
            mine = ((task[1], found) for task, found in wanted.items() if task[0] == name)
            yield from (f"{job_id}_{index}|{middle}|{found}" for index, found in mine)
            continue
        tasks = task_ids(job_id)
        for index in tasks[1] if tasks is not None else []:
            run_id = wanted.get((name, index))
            if run_id is not None and tasks is not None:
                yield f"{tasks[0]}_{index}|{middle}|{run_id}"
