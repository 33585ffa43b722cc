"""From Queued to the end: each end told apart from the others, with its reason and the payload's own code."""

from __future__ import annotations

import pytest

from tests.integration.support import Document, Login, how_it_ended, job_fields, states

pytestmark = pytest.mark.cluster

# Goes on once the file go is in its folder.
UNTIL_TOLD = 'echo begun; until [ -e go ]; do sleep 0.1; done; echo "gone on"'

SAVES = """\
import signal, sys, time
def save(number, frame):
    signal.signal(number, signal.SIG_IGN)  # Slurm tells it twice, if it is slow to end
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("begun", flush=True)
time.sleep(600)
"""


def fill_the_cluster(login: Login) -> str:
    """A job of bob's on all of it; its id."""
    argv = ["sbatch", "--parsable", "--nodes=3", "--exclusive", "--output=/dev/null", "--wrap=sleep 600"]
    job_id = login.cluster.run("login", argv, user="bob").stdout.strip()

    def runs() -> bool:
        return login.slurm("squeue", "--noheader", f"--jobs={job_id}", "--format=%T").strip() == "RUNNING"

    login.cluster.wait_for(runs, 20, "bob's job to run")
    return job_id


def tell(login: Login, run: Document) -> None:
    """Let the payload UNTIL_TOLD go on."""
    login.write(f"{run['run_dir']}/code/go", "")


def test_queued_then_running_then_completed(login: Login) -> None:
    """Why it waits is Slurm's word for it; every state is kept with its time."""
    blocker = fill_the_cluster(login)
    run = login.submit({"command": UNTIL_TOLD, "resources": {"nodes": 2}})
    assert (run["state"], run["job_id"] is not None) == ("Queued", True)
    login.until_state(run, "Queued", "Resources")
    assert login.json("ls", cwd=f"{login.home}/project")["runs"][0]["state"] == "Queued"

    login.cluster.run("login", ["scancel", blocker], user="bob")
    login.until_logged(run, "begun")
    running = login.until_state(run, "Running")
    assert running["started"] is not None and running["ended"] is None
    tell(login, run)
    (ended,) = login.wait(run)

    assert how_it_ended(ended) == ("Completed", "", 0)
    assert login.log(ended) == "begun\ngone on\n"
    seen = states(ended)
    assert [state for state in seen if state != "Starting"] == [
        *("NotStarted", *["Queued"] * seen.count("Queued")),
        *("Running", "Finalizing", "Completed"),
    ]
    assert {entry["reason"] for entry in ended["states"]} >= {"Resources", ""}
    times = [entry["at"] for entry in ended["states"]]
    assert times == sorted(times)


def test_canceled_while_queued_and_while_running(login: Login) -> None:
    """Both end as Canceled; what the running one had printed and made stays."""
    running = login.submit({"command": "echo some > outputs/result; echo begun; sleep 600"})
    login.until_logged(running, "begun")
    waiting = login.submit({"command": ["true"], "resources": {"nodes": 3, "exclusive": True}})
    login.until_state(waiting, "Queued", "Resources")

    login.hpcrun("cancel", waiting["id"], running["id"])
    waiting, running = login.wait(waiting, running)

    assert (waiting["state"], waiting["reason"], waiting["started"]) == ("Canceled", "Canceled", None)
    assert (running["state"], running["reason"]) == ("Canceled", "Canceled")
    assert login.log(running) == "begun\n"
    assert [output["name"] for output in running["outputs"]] == ["outputs/result"]
    again = login.hpcrun("cancel", running["id"])
    assert "had ended: Canceled" in again.stdout
    assert login.show(running) == running


def test_the_payloads_own_exit_code_is_recorded(login: Login) -> None:
    """Of a pipe any part counts, of a list of commands the last, and of a signal 128 and its number."""
    payloads: dict[str, tuple[str, str, int]] = {
        "exit 3": ("Failed", "BadExit", 3),
        "false | true": ("Failed", "BadExit", 1),
        "false; true": ("Completed", "", 0),
        "exit 256": ("Completed", "", 0),  # a process has eight bits for it
        "exit 255": ("Failed", "BadExit", 255),
        "no-such-program": ("Failed", "BadExit", 127),
        "kill -KILL $$": ("Failed", "Signal", 137),
    }
    runs = [login.submit({"command": payload}) for payload in payloads]
    ended = dict(zip(payloads, login.wait(*runs), strict=True))

    assert {payload: how_it_ended(run) for payload, run in ended.items()} == payloads
    assert "exit code 3" in ended["exit 3"]["message"]
    assert "signal 9" in ended["kill -KILL $$"]["message"]


def test_a_run_that_fails_ends_the_command_that_waits_with_its_own_code(login: Login) -> None:
    """20 for Failed, 21 for Canceled, 22 for one that goes on."""
    failed = login.submit({"command": "exit 3"})
    running = login.submit({"command": "echo begun; sleep 600"})
    assert login.hpcrun("wait", failed["id"], check=False).returncode == 20
    assert login.hpcrun("wait", running["id"], "--timeout", "1s", check=False).returncode == 22
    login.hpcrun("cancel", running["id"])
    assert login.hpcrun("wait", running["id"], check=False).returncode == 21


def test_a_requeued_run_is_a_new_attempt_of_the_same_run(login: Login) -> None:
    """Nothing of the first attempt is lost: its time, its log, its files."""
    # How long a requeued job must wait; the least that Slurm allows instead of two minutes.
    login.cluster.reconfigure({"AuthInfo": "cred_expire=5"})
    run = login.submit({"command": f'echo "attempt $HPCRUN_ATTEMPT"; {UNTIL_TOLD}'})
    login.until_logged(run, "begun")
    login.until_state(run, "Running")
    login.slurm("scontrol", "requeue", run["job_id"])
    requeued = login.until_state(run, "Queued", "BeginTime")
    assert requeued["ended"] is None
    login.until_logged(run, "attempt 2")
    tell(login, run)
    (ended,) = login.wait(run)

    assert how_it_ended(ended) == ("Completed", "", 0)
    assert ended["job_id"] == run["job_id"]
    assert [attempt["number"] for attempt in ended["attempts"]] == [1, 2]
    assert login.log(ended) == "attempt 1\nbegun\nattempt 2\nbegun\ngone on\n"
    system = login.read(ended, "system_logs/job.txt")
    assert system.index("attempt 1 of") < system.index("attempt 2 of")
    seen = states(ended)
    assert "Queued" in seen[seen.index("Running") :]


@pytest.mark.slow
def test_a_run_over_its_time_limit_is_told_apart(login: Login) -> None:
    """Timeout is the reason, and the payload had its time to save what it had."""
    run = login.submit({"command": ["python3", "-c", SAVES]}, "--set", "resources.time=1m")
    login.until_logged(run, "begun")
    job = job_fields(login.slurm("scontrol", "--oneliner", "show", "job", run["job_id"]))
    assert job["TimeLimit"] == "00:01:00"
    # The minute is over now; Slurm looks every half minute.
    over = ["scontrol", "update", f"jobid={run['job_id']}", "endtime=now"]
    login.cluster.run("ctl", over, user="root")
    (ended,) = login.wait(run)

    assert (ended["state"], ended["reason"]) == ("Failed", "Timeout")
    assert login.log(ended) == "begun\nsaved\n"


def test_a_run_that_takes_too_much_memory_fails(login: Login) -> None:
    """Without cgroups Slurm has no word for it: it kills the step, and says why in the job's log."""
    hungry = "import time; data = bytearray(400 << 20); print('begun', flush=True); time.sleep(600)"
    run = login.finish({"command": ["python3", "-c", hungry], "resources": {"memory": "100M"}})
    assert how_it_ended(run) == ("Failed", "OutOfMemory", 137)
    assert "exceeded memory limit" in login.read(run, "system_logs/job.txt")
