"""Signals reach the payload, each once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.support import SYSTEM_PYTHON, Document, Login, how_it_ended

pytestmark = pytest.mark.cluster

# Says which signals it gets, and goes on for a second after the first TERM or USR2 to see them all. It ends
# with the code it is given: among several ranks only 0 will do, since srun ends the others for any other.
LISTEN = """\
import signal, sys, time
last = None
def note(number, frame):
    global last
    print("got", signal.Signals(number).name, flush=True)
    if last is None and number in (signal.SIGTERM, signal.SIGUSR2):
        last = time.monotonic() + 1
for name in ("TERM", "INT", "HUP", "USR1", "USR2"):
    signal.signal(getattr(signal, "SIG" + name), note)
print("ready", flush=True)
while last is None or time.monotonic() < last:
    time.sleep(0.02)
print("saved", flush=True)
sys.exit(int(sys.argv[1]))
"""


def listen(login: Login, *options: str, **more: Any) -> Document:
    """Submit a run that listens; it is ready."""
    login.project({"listen.py": LISTEN})
    config = {
        "script": "listen.py",
        "arguments": [0 if "distributed_job_config" in more else 5],
        "environment": {"python": {"interpreter_path": SYSTEM_PYTHON}},
        **more,
    }
    run = login.submit(config, *options)
    for rank in (0, 1) if "distributed_job_config" in more else (None,):
        login.until_logged(run, "ready", rank)
    return run


def send(login: Login, name: str, run: Document) -> None:
    """Signal the batch shell alone, as ``--signal=B:NAME`` does."""
    login.slurm("scancel", "--batch", f"--signal={name}", run["job_id"])


def test_signals_to_the_batch_shell_reach_the_payload(login: Login) -> None:
    """One after the other, each once; the run goes on, and its exit code is the payload's."""
    run = listen(login)
    for name in ("USR1", "USR2"):
        send(login, name, run)
        login.until_logged(run, f"got SIG{name}")
    (ended,) = login.wait(run)

    assert how_it_ended(ended) == ("Failed", "BadExit", 5)
    assert login.log(ended) == "ready\ngot SIGUSR1\ngot SIGUSR2\nsaved\n"
    assert "got signal USR1" in login.read(ended, "system_logs/job.txt")


def test_every_rank_gets_a_signal_once(login: Login) -> None:
    """Passed on by srun to two processes on two nodes."""
    distributed = {"type": "pytorch", "process_count": 2, "node_count": 2, "communication_backend": "gloo"}
    run = listen(login, distributed_job_config=distributed)
    send(login, "USR2", run)
    (ended,) = login.wait(run)
    for rank in (0, 1):
        assert login.log(ended, rank) == "ready\ngot SIGUSR2\nsaved\n"
    assert ended["state"] == "Completed"


def test_a_canceled_payload_gets_term_once_and_time_to_save(login: Login) -> None:
    """For one process and for two on two nodes."""
    alone = listen(login)
    distributed = {"type": "mpi", "node_count": 2}
    two = listen(login, distributed_job_config=distributed)
    login.hpcrun("cancel", alone["id"], two["id"])
    alone, two = login.wait(alone, two)
    for run in (alone, two):
        assert (run["state"], run["reason"]) == ("Canceled", "Canceled")
    for log in (login.log(alone), login.log(two, 0), login.log(two, 1)):
        assert log == "ready\ngot SIGTERM\nsaved\n"
