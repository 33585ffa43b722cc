"""Debian's cron on the login node: what nobody looks at is looked after."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.integration.support import Document, Login

pytestmark = pytest.mark.cluster

PROJECT = "/home/alice/100% of 'it'"

SENDMAIL = "#!/bin/sh\ncat >>/home/alice/mail\n"
"""Takes what cron has to say to alice."""

TRIAL = """\
# Reports its x as its loss: once; or, if it is 9, for as long as it is let.
x=$2
mkdir -p "$HPCRUN_RUN_DIR/metrics"
while echo "{\\"n\\": \\"loss\\", \\"v\\": $x, \\"t\\": 1.0}" >>"$HPCRUN_RUN_DIR/metrics/rank_000.jsonl"; do
    [ "$x" = 9 ] || exit 0
    sleep 0.5
done
"""


@pytest.fixture
def cron(cluster: Cluster) -> Iterator[Cluster]:
    """The login node, with a cron that runs; the crontab is empty again afterwards."""
    mailer = cluster.outside("/usr/sbin/sendmail")
    mailer.write_text(SENDMAIL)
    mailer.chmod(0o755)
    cluster.run("login", ["/usr/sbin/cron"], user="root")
    yield cluster
    mailer.unlink()
    cluster.run("login", ["crontab", "-r"], check=False)
    for process in cluster.processes("login", "cron"):
        process.signal(signal.SIGKILL)


def written(login: Login, run: Document) -> Document:
    """The run as it stands in its record: nobody is asked."""
    record: Document = json.loads(login.read(run, "run.json"))
    return record


def trials(login: Login, sweep: Document) -> dict[int, Document]:
    """By their x, as they stand: nothing is asked, and nothing moved."""
    told = login.json("sweep", "status", sweep["id"], "--no-refresh", cwd=PROJECT)["trials"]
    return {trial["parameters"]["x"]: trial for trial in told}


def test_all_comes_to_its_end_by_cron_alone(login: Login, cron: Cluster) -> None:
    """A run; a sweep in waves, of which a trial is stopped early; and another by its schedule. Typed once,
    and the rest is cron's."""
    others = "# mine\n0  4 * * *\techo 50\\%\n* * * * *\techo by cron\n"
    cron.run("login", ["crontab", "-"], stdin=others)
    installed = login.json("cron", "install", "--every", "1m", cwd=made(login))
    assert (installed["by"], installed["every"], installed["daemon"]) == ("crontab", 60, True)
    run = login.submit({"command": "echo made > outputs/thing"}, project=PROJECT, cwd=PROJECT)
    assert written(login, run)["state"] == "Queued"
    sweep = login.json("sweep", "start", sweep_file(login), "-t", "virtual", cwd=PROJECT)
    assert {*trials(login, sweep)} == {9, 1}, "the rest waits until one of these has ended"
    values = "sweep.space.x={choice: [4, 3]}"
    schedule = ("--schedule", "* * * * *", "--name", "nightly", "--set", values)
    login.json("sweep", "start", f"{PROJECT}/sweep.yaml", "-t", "virtual", *schedule, cwd=PROJECT)
    runs = [run, sweep]

    def started() -> bool:
        last = login.json("schedule", "show", "nightly", cwd=PROJECT)["last"]
        return last is not None and last["run"] is not None

    def ended() -> bool:
        return all(written(login, each)["state"] == "Completed" for each in runs)

    cron.wait_for(started, 100, "cron to start what is due")
    runs.append(nightly(login))
    cron.wait_for(ended, 220, "cron to see the ends")
    assert login.read(run, "code/outputs/thing") == "made\n"
    found = trials(login, sweep)
    assert [found[x]["state"] for x in (9, 1, 2)] == ["Canceled", "Completed", "Completed"]
    assert found[9]["reason"] == "StoppedEarly"
    (best,) = login.json("sweep", "best", sweep["id"], "-n", "1", cwd=PROJECT)["trials"]
    assert (best["id"], best["best"]) == (found[1]["id"], 1.0)
    log = login.cat(f"{PROJECT}/.hpcrun/logs/tick.log")
    for each in runs:
        assert log.count(f"{each['id']}: Completed\n") == 1, log
    assert set(re.findall("exit code (.*)", log)) == {"0"}, log
    shown = login.json("cron", "show", cwd=PROJECT)
    assert shown["notes"] == [] and shown["last"]["exit_code"] == 0 and shown["next"]
    login.hpcrun("cron", "remove", cwd=PROJECT)
    assert login.slurm("crontab", "-l") == others
    subjects = re.findall("(?m)^Subject: (.*)", login.cat("/home/alice/mail"))
    letters = [subject for subject in subjects if not subject.endswith("echo by cron")]
    assert len(letters) < len(subjects), "cron mails what is printed"
    names = (sweep["id"], f"nightly ({runs[2]['id']})")
    for name in names:
        assert any(subject.startswith(f"hpcrun: {name}: Completed; best loss ") for subject in letters)
    assert len(letters) == 2, "a letter a sweep, of its trials none, and nothing by cron itself"


def test_two_machines_that_share_the_workspace(login: Login) -> None:
    """Each ticks at will, both at once: every trial begins once, and never more than may."""
    folder = made(login)
    values = ("sweep.space.x={choice: [1, 2, 3, 4, 5]}", "notify=null")
    options = [word for value in values for word in ("--set", value)]
    script = "echo start $2 >>$HOME/starts\nsleep 1\n" + TRIAL + "echo end $2 >>$HOME/starts\n"
    sweep_file(login, script.replace("|| exit 0", "|| break"))
    sweep = login.json("sweep", "start", "sweep.yaml", "-t", "virtual", *options, cwd=folder)
    argv = login.argv("tick")

    def over() -> bool:
        ticks = [login.cluster.popen(host, argv, cwd=folder) for host in ("login", "node1")]
        assert [tick.wait(60) for tick in ticks] == [0, 0]
        return bool(written(login, sweep)["state"] == "Completed")

    login.cluster.wait_for(over, 90, "the sweep to end")
    now, most, starts = 0, 0, []
    for line in login.cat(f"{login.home}/starts").splitlines():
        word, x = line.split()
        starts += [x] if word == "start" else []
        now += 1 if word == "start" else -1
        most = max(most, now)
    assert sorted(starts) == list("12345") and most <= 2


def nightly(login: Login) -> Document:
    """The sweep that the schedule started, which then starts no more."""
    found = login.json("schedule", "pause", "nightly", cwd=PROJECT)["last"]["run"]
    return login.json("show", found, "--no-refresh", cwd=PROJECT)


def sweep_file(login: Login, script: str = TRIAL) -> str:
    """Three trials, two at a time, judged by a policy."""
    section = {
        "space": {"x": {"choice": [9, 1, 2]}},
        "sampling": "grid",
        "metric": "loss",
        "goal": "minimize",
        "max_concurrent_runs": 2,
        "policy": {"bandit": {"slack_amount": 3}},
    }
    login.write(f"{PROJECT}/trial.sh", script)
    return login.write(
        f"{PROJECT}/sweep.yaml",
        json.dumps({"script": "trial.sh", "notify": {"mail": "alice"}, "sweep": section}),
    )


def made(login: Login) -> str:
    """The project's folder, a workspace."""
    login.cluster.run("login", ["mkdir", "-p", PROJECT])
    login.hpcrun("init", cwd=PROJECT)
    return PROJECT
