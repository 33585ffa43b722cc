"""What the processes of a pack run: many small trials in one job, handed out by mpi4py.futures.

A program of its own, with the standard library and the mpi4py of the job's environment: it travels in the
job's script. Process 0 hands trials out, and runs one at a time as all others do. A trial is a line of the
table; ``trial.sh``, called as a task of an array would be, makes its folder and runs its script, which says
how it went, as that of any run does. What a trial cannot say itself is said here: that it was stopped before
its turn, or that its script was killed. A trial that has said how it ended is not run again.

Arguments: how many run at once at most (0: as many as there are processes), and the GPUs of each.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

HERE = Path(os.environ.get("HPCRUN_RUN_DIR", "."))
ATTEMPT = int(os.environ.get("HPCRUN_ATTEMPT", "1"))
KILL_WAIT = float(os.environ.get("HPCRUN_KILL_WAIT", "30"))
LOOK = 1.0
"""Seconds between two looks at what was stopped."""

OWN = {"MASTER_ADDR", "MASTER_PORT", "HPCRUN_MPI4PY", "HPCRUN_PACK_NAMES", "HPCRUN_NODE_NAMES"}
GPUS = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")

ending: list[int] = []
"""Signals that this process was sent: nothing is begun any more."""


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def say(words: str) -> None:
    print(f"{now()} hpcrun: {words}", flush=True)


def read_table() -> list[str]:
    """The ids of the trials' runs, by their places."""
    lines = (HERE / "table").read_text(encoding="utf-8").splitlines()
    return [line.split()[0] for line in lines if line.strip()]


def job_of(index: int) -> str:
    """The id under which a trial knows itself, as a task of an array would."""
    return f"{os.environ.get('SLURM_JOB_ID', '0')}_{index}"


def folder_of(run_id: str) -> Path:
    return HERE.parent.parent / "runs" / run_id


def said(run_id: str, index: int) -> dict[str, Any] | None:
    """What a trial's script has said last; None for nothing, or for another job's word."""
    try:
        status = json.loads((folder_of(run_id) / "status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return status if isinstance(status, dict) and status.get("job_id") == job_of(index) else None


def is_over(status: dict[str, Any] | None) -> bool:
    """Whether a trial has ended for good: not if it was ended with an earlier attempt of the whole job."""
    if status is None or not status.get("ended"):
        return False
    ended_with_it = status.get("signal") == "TERM" and status.get("state") == "failed"
    return not (ended_with_it and int(status.get("attempt") or 1) < ATTEMPT)


def put(run_id: str, index: int, state: str, code: int | None, stage: str, message: str) -> None:
    """Say how a trial ended, as its own script would."""
    folder, known, end = folder_of(run_id), said(run_id, index) or {}, now()
    for name in ("system_logs", "user_logs", "metrics", "code/outputs", "code/logs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    status = {
        "version": 1,
        "run_id": run_id,
        "job_id": job_of(index),
        "attempt": ATTEMPT,
        "state": state,
        "stage": stage,
        "started": known.get("started"),
        "ended": end,
        "exit_code": code,
        "signal": known.get("signal") or ("TERM" if ending else ""),
        "nodes": known.get("nodes"),
        "message": message,
    }
    line = json.dumps(status, separators=(",", ":")) + "\n"
    with (folder / "system_logs" / "attempts.jsonl").open("a", encoding="utf-8") as file:
        file.write(line)
    temporary = folder / f".status.{job_of(index)}.pack"
    temporary.write_text(line, encoding="utf-8")
    temporary.replace(folder / "status.json")


def is_stopped(index: int) -> bool:
    return (HERE / "stop" / str(index)).is_dir()


def environment(index: int, gpus: int) -> dict[str, str]:
    """What a trial's script is to find: not what MPI and the step have for this process, and as if the trial
    were the only process of a task of an array."""
    given = os.environ.get("HPCRUN_PACK_NAMES", "").split()
    names = {name for name in given if name not in OWN}
    found = {n: value for n, value in os.environ.items() if n in names or n.startswith("BASH_FUNC_")}
    node = found.get("SLURMD_NODENAME") or socket.gethostname()
    counts = ("NTASKS", "NPROCS", "NNODES", "JOB_NUM_NODES", "NTASKS_PER_NODE", "TASKS_PER_NODE")
    found.update({f"SLURM_{name}": "1" for name in counts})
    found.update({f"SLURM_{name}": "0" for name in ("PROCID", "LOCALID", "NODEID")})
    found.update({"SLURM_JOB_NODELIST": node, "SLURM_NODELIST": node})
    found["SLURM_ARRAY_JOB_ID"] = os.environ.get("SLURM_JOB_ID", "0")
    found["SLURM_ARRAY_TASK_ID"] = str(index)
    first = int(os.environ.get("LOCAL_RANK", "0")) * gpus
    for name in GPUS if gpus else ():
        every = os.environ.get(name, "").split(",")
        if len(every) >= first + gpus:
            found[name] = ",".join(every[first : first + gpus])
    return found


def signal_all(pid: int, number: int) -> None:
    """To the group of processes that a trial is."""
    try:
        os.killpg(pid, number)
    except OSError:
        pass


def run(index: int, run_id: str, gpus: int) -> tuple[int, int | None]:
    """Run a trial to its end; its place, and its exit code: None if it was not begun."""
    if ending:
        return index, None
    log = os.open(HERE / f"{index}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        argv = ["bash", "--", str(HERE / "trial.sh")]
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=HERE,
            env=environment(index, gpus), start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(log)
    stopped = None
    while True:
        try:
            code = child.wait(LOOK)
            break
        except subprocess.TimeoutExpired:
            pass
        if stopped is None and is_stopped(index):
            stopped = time.monotonic()
            signal_all(child.pid, signal.SIGTERM)
        elif stopped is not None and time.monotonic() - stopped > KILL_WAIT:
            signal_all(child.pid, signal.SIGKILL)
    signal_all(child.pid, signal.SIGKILL)  # what it left running
    conclude(index, run_id, code if code >= 0 else 128 - code, stopped is not None)
    return index, code if code >= 0 else 128 - code


def conclude(index: int, run_id: str, code: int, stopped: bool) -> None:
    """Say what the trial's own script did not."""
    if code == 102:  # the run belongs to another job, whose word counts
        return
    known = said(run_id, index)
    if stopped and code != 0:
        put(run_id, index, "canceled", code, "payload", "")
    elif known is None:
        log = f"see system_logs/job.txt, or {HERE}/{index}.txt"
        put(run_id, index, "failed", code, "launch", f"the job of its pack could not begin its script: {log}")
    elif not known.get("ended"):
        put(run_id, index, "failed", code, str(known.get("stage") or "payload"), "")


def hand_out(pool: Any, size: int, most: int, gpus: int) -> int:
    """Have all trials run that have not ended; the exit code."""
    runs = read_table()
    todo = deque(index for index, run_id in enumerate(runs) if not is_over(said(run_id, index)))
    say(f"{len(todo)} of {len(runs)} trials are to run, {min(most, len(todo))} at a time")
    under_way: dict[Future[tuple[int, int | None]], bool] = {}
    with ThreadPoolExecutor(1) as own:
        while under_way or (todo and not ending):
            drop_stopped(todo, runs)
            while todo and not ending and len(under_way) < most:
                mine = not any(under_way.values())
                if not mine and sum(not each for each in under_way.values()) >= size - 1:
                    break
                index = todo.popleft()
                where = own if mine else pool
                under_way[where.submit(run, index, runs[index], gpus)] = mine
            done, _ = wait(under_way, timeout=LOOK, return_when=FIRST_COMPLETED)
            for future in done:
                del under_way[future]
                try:
                    index, code = future.result()
                except OSError as error:  # a full disk, say: this trial is then as if its turn had not come
                    say(f"a trial could not be run: {error}")
                    continue
                words = "not begun" if code is None else f"exit code {code}"
                say(f"trial {index}, {runs[index]}: {words}")
    return 143 if ending else 0


def drop_stopped(todo: deque[int], runs: list[str]) -> None:
    """Those that are not to be begun any more have ended."""
    try:
        names = [path.name for path in (HERE / "stop").iterdir()]
    except OSError:
        return
    for index in {int(name) for name in names if name.isdigit()} & {*todo}:
        todo.remove(index)
        try:
            put(runs[index], index, "canceled", None, "prepare", "")
        except OSError as error:
            say(f"it cannot be said that trial {index} was stopped: {error}")


def refuse(rank: int, words: str) -> int:
    """Say for all trials that have not ended why none can be run. The first process does; were another to
    seem to fail, it would be ended by that."""
    if rank != 0:
        return 0
    say(words)
    for index, run_id in enumerate(read_table()):
        if not is_over(said(run_id, index)):
            put(run_id, index, "failed", 104, "launch", f"the job of its pack ran no trial: {words}")
    return 104


def main() -> int:
    os.umask(0o077)
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    most, gpus = int(sys.argv[1]) or size, int(sys.argv[2])
    try:
        from mpi4py import MPI
        from mpi4py.futures import MPICommExecutor
    except (ImportError, RuntimeError) as error:  # the second where it finds no MPI
        said = " ".join(str(error).split())
        words = f"a pack needs mpi4py in the environment of its trials, and it cannot be imported: {said}"
        return refuse(rank, words)
    found = MPI.COMM_WORLD.Get_size()
    if found != size:
        words = f"{size} processes were started, and MPI sees {found}"
        words += ": it does not go with the way that the site starts MPI processes (scheduler.mpi)"
        return refuse(rank, words)
    signal.signal(signal.SIGTERM, lambda number, frame: ending.append(number))
    if size == 1:
        return hand_out(None, 1, 1, gpus)
    with MPICommExecutor(MPI.COMM_WORLD, root=0) as pool:
        return 0 if pool is None else hand_out(pool, size, min(most, size), gpus)


if __name__ == "__main__":
    sys.exit(main())
