"""This machine as a scheduler, with real processes: turns, limits, cancels, deaths (faults 3, 20, 22)."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcrun import PyTorchConfiguration, ScriptRunConfig
from hpcrun.places.status import JobStatus, read_status
from hpcrun.schedulers import local_job
from hpcrun.schedulers.base import JobFacts, JobRef, JobRequest
from hpcrun.schedulers.local import LocalScheduler, is_alive
from tests.engine_help import end, install, job, processes_of, until

pytestmark = pytest.mark.slow

NUMBERS = itertools.count()
WAITS = "touch outputs/ready; while :; do sleep 0.02; done"


class Machine:
    """A LocalScheduler with a queue of its own, and runs for it."""

    def __init__(self, folder: Path, capacity: int, kill_wait: float) -> None:
        self.folder = folder
        self.queue = folder / "queue"
        self.scheduler = LocalScheduler(self.queue, capacity, kill_wait)
        self.made: list[Path] = []

    def make(self, command: str, **config: Any) -> Path:
        """A run folder, ready to be submitted."""
        folder = self.folder / f"run{next(NUMBERS)}"
        self.made.append(folder)
        return install(job(folder, ScriptRunConfig(".", command=command, **config)), {})

    def submit(self, run: Path, **request: Any) -> str:
        return self.scheduler.submit(JobRequest(run.name, run, **request))

    def start(self, command: str, **request: Any) -> Path:
        run = self.make(command)
        self.submit(run, **request)
        return run

    def facts(self, run: Path) -> JobFacts | None:
        answer = self.scheduler.query([ref(run)])
        assert answer.complete and answer.queue and not answer.trouble
        return answer.facts.get(run.name)

    def word(self, run: Path) -> str:
        found = self.facts(run)
        return "" if found is None else found.word

    def why(self, run: Path) -> str:
        found = self.facts(run)
        return "" if found is None else found.why

    def ended(self, run: Path) -> JobFacts:
        def look() -> JobFacts | None:
            found = self.facts(run)
            return found if found is not None and found.word not in ("PENDING", "RUNNING") else None

        found = until(look, f"the end of {run.name}")
        assert found is not None
        return found

    def tickets(self) -> list[str]:
        return sorted(path.suffix for path in (self.queue / socket.gethostname()).glob("*.*.*.*"))


def ref(run: Path) -> JobRef:
    return JobRef(run.name, str(run), None, "2026-01-31T12:00:00Z")


def ready(run: Path) -> Path:
    until((run / "code" / "outputs" / "ready").exists, f"the payload of {run.name}")
    return run


def status(run: Path) -> JobStatus:
    found = read_status(run / "status.json")
    assert found is not None
    return found


def log(run: Path) -> str:
    return (run / "user_logs" / "std_log.txt").read_text()


def kill_watcher(run: Path) -> None:
    """Kill the process that watches over a run, and no other; back when it is dead."""
    pid = json.loads((run / "local.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid not in processes_of(run))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    machines: list[Machine] = []

    def make(capacity: int = 4, kill_wait: float = 1.0) -> Machine:
        machines.append(Machine(tmp_path / f"machine{len(machines)}", capacity, kill_wait))
        return machines[-1]

    yield make
    for made in machines:
        for run in made.made:
            end(run)


def test_it_runs(machine: Callable[..., Machine]) -> None:
    here = machine()
    run = here.make("echo hello")
    job_id = here.submit(run, cpus=2)
    found = here.ended(run)
    assert (found.job_id, found.word, found.exit_code) == (job_id, "COMPLETED", 0)
    assert found.nodes == socket.gethostname()
    assert found.submitted and found.started and found.ended
    assert found.submitted <= found.started <= found.ended
    assert (status(run).job_id, status(run).exit_code) == (job_id, 0)
    assert log(run) == "hello\n"
    until(lambda: not is_alive(run) and here.tickets() == [])


def test_what_it_took(machine: Callable[..., Machine]) -> None:
    """As the kernel counts it for what the job waited for: here a second of one CPU, and 60 MiB and more."""
    here = machine()
    eats = "import time; a = bytearray(60 << 20)\nwhile time.process_time() < 1: pass"
    found = here.ended(here.start(f"python3 -c '{eats}'", cpus=2)).usage
    assert found is not None
    assert (found["allocated_cpus"], list(found)) == (
        2,
        ["elapsed_seconds", "cpu_seconds", "allocated_cpus", "max_rss_bytes"],
    )
    assert 1 <= found["cpu_seconds"] <= found["elapsed_seconds"] + 2
    assert 60 << 20 < found["max_rss_bytes"] < 1 << 30


def test_exit_codes(machine: Callable[..., Machine]) -> None:
    here = machine()
    runs = {code: here.start(f"exit {code}") for code in (1, 3, 102)}
    killed = here.start("kill -9 $$")
    for code, run in runs.items():
        found = here.ended(run)
        assert (found.word, found.exit_code) == ("FAILED", code)
    assert here.ended(killed).exit_code == 137


def test_a_run_that_nobody_submitted_is_not_known(machine: Callable[..., Machine]) -> None:
    here = machine()
    assert here.facts(here.make("true")) is None
    here.scheduler.cancel([ref(here.made[0])])


def test_the_environment_of_the_caller_does_not_leak(
    machine: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_JOB_ID", "RANK", "HPCRUN_JOB_ID", "HPCRUN_ATTEMPT", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, "leaked")
    here = machine()
    run = here.start("env")
    here.ended(run)
    assert "leaked" not in log(run)


def test_runs_wait_their_turn(machine: Callable[..., Machine]) -> None:
    here = machine(capacity=2)
    first = ready(here.start(f"trap 'exit 0' USR1; {WAITS}", cpus=2))
    second = here.start("date +%s.%N", cpus=1)
    until(lambda: here.tickets() == [".run", ".wait"])
    third = here.start("date +%s.%N", cpus=2)
    until(lambda: here.tickets() == [".run", ".wait", ".wait"])
    assert (here.word(first), here.word(second), here.word(third)) == ("RUNNING", "PENDING", "PENDING")
    assert not (second / "user_logs" / "std_log.txt").exists()
    found = here.facts(second)
    assert found is not None and found.started is None
    here.scheduler.cancel([ref(first)])
    assert {here.ended(run).word for run in (second, third)} == {"COMPLETED"}
    assert float(log(second)) < float(log(third)), "first come, first served"


def test_a_run_waits_for_those_before_it(machine: Callable[..., Machine]) -> None:
    """It takes no place in the queue meanwhile, and begins as soon as the last of them has ended."""
    here = machine(capacity=1)
    first = ready(here.start(f"trap 'exit 0' USR1; {WAITS}"))
    failed = here.make("exit 3")
    last = here.start("echo last", after=[f"afterok:{first}", f"afternotok:{failed}", f"afterany:{failed}"])
    until(lambda: here.why(last) == "Dependency")
    assert (here.word(last), here.tickets()) == ("PENDING", [".run"])
    here.submit(failed)
    os.kill(json.loads((first / "local.json").read_text())["group"], signal.SIGUSR1)
    assert [here.ended(run).word for run in (first, failed, last)] == ["COMPLETED", "FAILED", "COMPLETED"]
    assert log(last) == "last\n"


@pytest.mark.parametrize(("kind", "how"), [("afterok", "exit 1"), ("afternotok", "exit 0")])
def test_a_run_that_waits_in_vain_is_canceled(machine: Callable[..., Machine], kind: str, how: str) -> None:
    here = machine()
    first = here.start(how)
    found = here.ended(here.start("echo begun", after=[f"{kind}:{first}"]))
    assert (found.word, found.why, found.started) == ("CANCELLED", "DependencyNeverSatisfied", None)
    assert not (here.made[-1] / "user_logs" / "std_log.txt").exists()


def test_a_run_whose_process_is_gone_did_not_end_well(machine: Callable[..., Machine]) -> None:
    """Killed with all that it started, or its folder deleted: nobody will ever say how it ended."""
    here = machine()
    first = ready(here.start(WAITS))
    waits = [here.start("echo begun", after=[f"{kind}:{first}"]) for kind in ("afterok", "afterany")]
    until(lambda: all(here.why(run) == "Dependency" for run in waits))
    said = json.loads((first / "local.json").read_text())
    os.kill(said["pid"], signal.SIGKILL)
    os.killpg(said["group"], signal.SIGKILL)
    assert [here.ended(run).word for run in waits] == ["CANCELLED", "COMPLETED"]
    assert here.ended(here.start("true", after=[f"afterok:{here.folder}/gone"])).word == "CANCELLED"


def test_canceled_while_it_waits_for_another(machine: Callable[..., Machine]) -> None:
    here = machine()
    first = ready(here.start(WAITS))
    second = here.start("true", after=[f"afterany:{first}"])
    here.scheduler.cancel([ref(second)])
    assert (here.ended(second).word, here.word(first)) == ("CANCELLED", "RUNNING")


def test_a_later_run_that_would_fit_does_not_overtake(machine: Callable[..., Machine]) -> None:
    here = machine(capacity=2)
    first = ready(here.start(WAITS, cpus=1))
    big = here.start("true", cpus=2)
    small = here.start("true", cpus=1)
    until(lambda: len(here.tickets()) == 3)
    assert (here.word(big), here.word(small)) == ("PENDING", "PENDING")
    here.scheduler.cancel([ref(first)])
    assert here.ended(big).word == here.ended(small).word == "COMPLETED"


def test_never_more_at_once_than_there_is_room_for(machine: Callable[..., Machine]) -> None:
    here = machine(capacity=2)
    counter = here.folder / "running"
    counter.mkdir(parents=True)
    text = f"touch {counter}/$$; ls {counter} | wc -l; sleep 0.05; rm {counter}/$$"
    runs = [here.start(text) for _ in range(6)]
    assert {here.ended(run).word for run in runs} == {"COMPLETED"}
    assert max(int(log(run)) for run in runs) <= 2


def test_what_asks_for_more_than_there_is_runs_alone(machine: Callable[..., Machine]) -> None:
    here = machine(capacity=1)
    assert here.ended(here.start("true", cpus=64)).word == "COMPLETED"


def test_it_outlives_the_process_that_submitted_it(machine: Callable[..., Machine]) -> None:
    here = machine()
    run = here.make(WAITS)
    code = (
        "import os, sys; from pathlib import Path\n"
        "from hpcrun.schedulers.base import JobRequest; from hpcrun.schedulers.local import LocalScheduler\n"
        "run = Path(sys.argv[2])\n"
        "LocalScheduler(Path(sys.argv[1]), 4).submit(JobRequest(run.name, run))\n"
        "os.kill(0, 9)\n"
    )
    argv = [sys.executable, "-c", code, str(here.queue), str(run)]
    assert subprocess.run(argv, start_new_session=True, check=False).returncode == -9
    ready(run)
    assert here.word(run) == "RUNNING"
    here.scheduler.cancel([ref(run)])
    assert here.ended(run).word == "CANCELLED"


def test_a_time_limit(machine: Callable[..., Machine]) -> None:
    here = machine()
    run = here.start(f"trap 'echo saved; exit 0' TERM; {WAITS}", time_limit=1)
    found = here.ended(run)
    assert (found.word, found.exit_code) == ("TIMEOUT", 0)
    assert log(run).endswith("saved\n")
    assert (status(run).signal, status(run).exit_code) == ("TERM", 0)


def test_canceled_while_it_waits(machine: Callable[..., Machine]) -> None:
    here = machine(capacity=1)
    first = ready(here.start(WAITS))
    second = here.start("echo never")
    assert here.word(second) == "PENDING"
    here.scheduler.cancel([ref(second)])
    assert here.ended(second).word == "CANCELLED"
    assert not (second / "status.json").exists()
    until(lambda: here.tickets() == [".run"])
    assert here.word(first) == "RUNNING"


def test_canceled_while_it_runs(machine: Callable[..., Machine]) -> None:
    here = machine()
    run = ready(here.start(f"trap 'exit 9' TERM; {WAITS}"))
    here.scheduler.cancel([ref(run)])
    here.scheduler.cancel([ref(run)])
    found = here.ended(run)
    assert (found.word, found.exit_code) == ("CANCELLED", 9)
    here.scheduler.cancel([ref(run)])


def test_canceled_the_moment_it_starts(machine: Callable[..., Machine]) -> None:
    """Whenever the signal comes, nothing is left running that the record calls canceled."""
    here = machine()
    for delay in (0, 0.005, 0.01, 0.02, 0.03, 0.04):
        run = here.start(WAITS)
        until(lambda run=run: here.word(run) != "PENDING")  # type: ignore[misc]
        time.sleep(delay)  # not a wait for anything: where the signal hits
        here.scheduler.cancel([ref(run)])
        assert here.ended(run).word == "CANCELLED"
        until(lambda run=run: not processes_of(run))  # type: ignore[misc]


def test_term_interrupts_only_where_it_can_be_heeded(tmp_path: Path) -> None:
    """Not between the start of the payload and its being known, say: it would run on, called canceled."""
    settings = {
        "run_dir": tmp_path,
        "queue": tmp_path,
        "cpus": 1,
        "capacity": 1,
        "time_limit": None,
        "after": [],
    }
    watching = local_job.Job({**settings, "kill_wait": 1})
    watching.on_term(signal.SIGTERM, None)
    with pytest.raises(local_job.Ended), watching._heeds_term():
        pytest.fail("what is not to be begun any more")
    watching = local_job.Job({**settings, "kill_wait": 1})
    with pytest.raises(local_job.Ended), watching._heeds_term():
        watching.on_term(signal.SIGTERM, None)
    watching.on_term(signal.SIGTERM, None)


def test_a_payload_that_will_not_end_is_killed_after_a_while(machine: Callable[..., Machine]) -> None:
    here = machine(kill_wait=0.3)
    run = ready(here.start(f"trap '' TERM; {WAITS}"))
    here.scheduler.cancel([ref(run)])
    found = here.ended(run)
    assert found.word == "CANCELLED"
    until(lambda: not processes_of(run))


def test_what_a_job_leaves_running_ends_with_it(machine: Callable[..., Machine]) -> None:
    here = machine()
    run = here.start("sleep 1000 & sleep 1000 & exit 0")
    assert here.ended(run).word == "COMPLETED"
    until(lambda: not processes_of(run))


@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 3", 3)])
def test_the_watching_process_is_killed(command: str, code: int, machine: Callable[..., Machine]) -> None:
    """The job goes on, says itself how it ended, and keeps its place in the queue until then."""
    here = machine(capacity=1)
    gate = here.folder / "gate"
    run = here.make(f"touch outputs/ready; until [ -e '{gate}' ]; do sleep 0.02; done; {command}")
    here.submit(run)
    kill_watcher(ready(run))
    other = here.start("true")
    assert here.word(run) == "RUNNING", "its processes live"
    assert here.word(other) == "PENDING", "and need their CPUs"
    gate.touch()
    assert here.ended(run).word == "NODE_FAIL"
    assert (status(run).exit_code, status(run).ended is not None) == (code, True)
    assert here.ended(other).word == "COMPLETED"


def test_a_run_whose_watching_process_is_gone_can_be_canceled(machine: Callable[..., Machine]) -> None:
    here = machine()
    run = ready(here.start(WAITS))
    kill_watcher(run)
    here.scheduler.cancel([ref(run)])
    assert here.ended(run).word == "NODE_FAIL"
    assert (status(run).exit_code, status(run).signal) == (143, "TERM")


def test_tickets_of_the_dead_are_cleared_away(machine: Callable[..., Machine]) -> None:
    here = machine(capacity=1)
    first = ready(here.start(WAITS))
    waiting = here.start("echo never")
    until(lambda: here.tickets() == [".run", ".wait"])
    kill_watcher(waiting)
    end(first)
    assert here.ended(here.start("true")).word == "COMPLETED"
    until(lambda: here.tickets() == [])
    assert here.ended(waiting).word == "NODE_FAIL"


def test_a_second_job_for_a_run_leaves(machine: Callable[..., Machine]) -> None:
    here = machine()
    run = here.make("echo once")
    first = here.submit(run)
    assert here.submit(run) == first, "the second one leaves, and the first one's id is the answer"
    here.ended(run)
    assert here.submit(run) == first
    until(lambda: not processes_of(run))
    assert log(run) == "once\n"
    assert here.word(run) == "COMPLETED"


def test_two_queues_do_not_know_of_each_other(machine: Callable[..., Machine]) -> None:
    one, other = machine(capacity=1), machine(capacity=1)
    ready(one.start(WAITS))
    assert other.ended(other.start("true")).word == "COMPLETED"


def test_ranks(machine: Callable[..., Machine]) -> None:
    here = machine()
    text = 'echo "$RANK $WORLD_SIZE $LOCAL_RANK $MASTER_ADDR ${MASTER_PORT:+port}"; [ $RANK = 0 ] || exit 5; '
    ranks = PyTorchConfiguration("gloo", 2, 1)
    run = here.make(f"{text} {WAITS}", distributed_job_config=ranks)
    here.submit(run, cpus=2)
    found = here.ended(run)
    assert (found.word, found.exit_code) == ("FAILED", 5)
    said = [(run / "user_logs" / f"std_log_process_00{rank}.txt").read_text() for rank in (0, 1)]
    assert said == ["0 2 0 127.0.0.1 port\n", "1 2 1 127.0.0.1 port\n"]
    until(lambda: not processes_of(run))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x", "word": 7}', "null", '{"word": "COMPLETED"}'])
def test_a_payload_that_writes_over_the_schedulers_file(text: str, machine: Callable[..., Machine]) -> None:
    here = machine()
    run = here.make("true")
    (run / "local.json").write_text(text)
    assert here.facts(run) is None
    here.scheduler.cancel([ref(run)])


@pytest.mark.parametrize(
    ("usage", "kept"),
    [("[]", None), ('{"a": 1.5, "b": "x", "c": -1, "d": NaN, "e": true, "f": Infinity}', {"a": 1.5})],
)
def test_of_what_it_took_only_numbers_are_believed(
    usage: str, kept: dict[str, float] | None, machine: Callable[..., Machine]
) -> None:
    here = machine()
    run = here.make("true")
    (run / "local.json").write_text(
        f'{{"pid": 1, "word": "COMPLETED", "ended": "2026-01-31T12:00:00Z", "usage": {usage}}}'
    )
    found = here.facts(run)
    assert found is not None and found.usage == kept
