"""``notify``: whoever is to be told of a run's end is told, once, and what does not work harms no run."""

from __future__ import annotations

import email
import email.policy
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hpcrun.engine import notice_ways, notices
from hpcrun.workspace import Workspace
from tests.cli_help import PATIENCE, Project, document, hpcrun, make_project, refused, typed
from tests.engine_help import until


class Hook:
    """A server on this machine that keeps what it is told; ``status`` is what it answers."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.status, self.pause, self.headers = 200, 0.0, dict[str, str]()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["Content-Type"] == "application/json"
                hook.told.append(json.loads(body))
                time.sleep(hook.pause)
                self.send_response(hook.status)
                for name, value in hook.headers.items():
                    self.send_header(name, value)
                self.end_headers()

            do_GET = do_POST

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/in"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def ends(self) -> list[str]:
        return [f"{each['run']['experiment']} {each['run']['state']}" for each in self.told]


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.close()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    yield from make_project(tmp_path)


def end(project: Project, run_id: str) -> None:
    """Have a run end, with nobody waiting for it by hpcrun."""
    project.let_go()
    deadline = time.monotonic() + PATIENCE
    while document("show", run_id)["state"] not in ("Completed", "Failed", "Canceled"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ended(project: Project, **notify: object) -> str:
    """A run that has ended, unseen by all who would tell of it."""
    project.config(project.until_let_go, notify=notify)
    run_id: str = document("submit", "run.yaml")["id"]
    end(project, run_id)
    return run_id


def waiting(project: Project) -> list[str]:
    return [path.name for path in (project.folder / ".hpcrun/notices").iterdir()]


def test_who_waits_tells_and_a_tick_does_not_tell_again(project: Project, hook: Hook) -> None:
    project.config("echo hello; exit 3", notify={"webhook": hook.url})
    run = document("submit", "run.yaml", "--name", "mine", "--tag", "a=b", "--wait", code=20)
    typed("tick")
    assert hook.ends == ["exp Failed"] and not waiting(project)
    told = hook.told[0]
    assert told["event"] == f"{run['id']}/Failed"
    assert told["text"] == f"mine ({run['id']}): Failed (BadExit)"
    assert (told["run"]["exit_code"], told["run"]["tags"]) == (3, {"a": "b"})
    assert [each["by"] for each in project.record()["notify"]["sent"]] == ["webhook"]


def test_a_tick_tells_what_nobody_waited_for(project: Project, hook: Hook) -> None:
    ended(project, webhook=hook.url)
    assert not hook.told
    typed("tick")
    typed("tick")
    assert hook.ends == ["exp Completed"] and not waiting(project)


def test_an_end_that_nobody_asked_for_is_not_told(project: Project, hook: Hook) -> None:
    ended(project, on="failed", webhook=hook.url, command=["false"])
    assert typed("tick") == ""
    assert not hook.told and not waiting(project)


def test_many_at_once_tell_once(project: Project, hook: Hook) -> None:
    hook.pause = 0.5
    run_id = ended(project, webhook=hook.url)
    barrier = threading.Barrier(6)

    def one() -> None:
        with Workspace.open(project.folder) as workspace:
            barrier.wait(PATIENCE)
            notices.tell(workspace.history, [run_id])

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    argv = [sys.executable, "-m", "hpcrun", "tick"]
    ticks = [subprocess.Popen(argv) for _ in range(3)]
    assert [tick.wait(PATIENCE) for tick in ticks] == [0, 0, 0]
    assert len(hook.told) == 1


def test_killed_between_telling_and_writing_it_down_it_is_told_again(
    project: Project, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least once: the one who is told knows it by its ``event``."""
    ended(project, webhook=hook.url)

    class Killed(BaseException):
        pass

    def die(*args: object) -> None:
        raise Killed

    with monkeypatch.context() as patched, Workspace.open(project.folder) as workspace:
        patched.setattr(notices, "_write_down", die)
        with pytest.raises(Killed):
            notices.tell(workspace.history)
    typed("tick")
    assert len(hook.told) == 2 and hook.told[0] == hook.told[1]
    assert not waiting(project)


def test_what_does_not_work_is_told_once_and_tried_again_and_harms_no_run(
    project: Project, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook.status = 500
    run_id = ended(project, webhook=hook.url)
    assert "the webhook answered 500" in refused("tick", code=8)
    assert refused("tick", code=8) == "", "nothing new"
    assert len(hook.told) == 1, "not every five minutes"
    assert document("show", run_id)["state"] == "Completed"
    monkeypatch.setattr(notices, "seconds_since", lambda text: 1.0)  # later
    assert refused("tick", code=8) == "" and len(hook.told) == 2
    hook.status = 204
    assert "all is well again" in hpcrun("tick").stderr
    assert len(hook.told) == 3 and typed("tick") == ""


def test_it_is_given_up_in_the_end(project: Project, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    hook.status = 403
    ended(project, webhook=hook.url)
    monkeypatch.setattr(notices, "seconds_since", lambda text: 1.0)
    for _ in range(notices.TRIES):
        last = hpcrun("tick").stderr
    assert "given up" in last and len(hook.told) == notices.TRIES
    assert refused("tick", code=0) == "", "that all is well again would not be true"
    assert refused("tick", code=0) == "" and len(hook.told) == notices.TRIES and not waiting(project)
    assert "403" in project.record()["notify"]["sent"][0]["error"]


def test_a_redirect_is_not_followed(project: Project, hook: Hook) -> None:
    other = Hook()
    hook.status, hook.headers = 307, {"Location": other.url}
    ended(project, webhook=hook.url)
    assert "answered 307" in refused("tick", code=8)
    other.close()
    assert not other.told


def test_one_that_never_answers_holds_nobody_up(
    project: Project, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notice_ways, "HOOK_TIMEOUT", 0.3)
    monkeypatch.setattr(notice_ways, "COMMAND_TIMEOUT", 0.3)
    hook.pause = 1.5
    ended(project, webhook=hook.url, command=["sleep", "60"])
    said = refused("tick", code=8)
    assert "(webhook)" in said and "(command)" in said
    assert "sleep 60 did not end" in said


def test_the_address_is_kept_nowhere(project: Project, hook: Hook, tmp_path: Path) -> None:
    secret = tmp_path.parent / f"{tmp_path.name}-hook"
    secret.write_text(f"{hook.url}?token=canary\n")
    secret.chmod(0o600)
    hook.status = 500
    ended(project, webhook=f"file:{secret}")
    said = hpcrun("tick", "--log").output
    secret.write_text("http://127.0.0.1:9/?token=canary\n")
    assert len(hook.told) == 1 and "canary" not in said
    for path in (project.folder / ".hpcrun").rglob("*"):
        assert not path.is_file() or b"canary" not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("text", "words"),
    [("http://example.org/?token=canary", "holds is no https"), ("", "empty"), (None, "cannot read")],
)
def test_an_address_that_cannot_be_had_is_said_when_the_run_is_submitted(
    project: Project, tmp_path: Path, text: str | None, words: str
) -> None:
    secret = tmp_path.parent / f"{tmp_path.name}-hook"
    if text is not None:
        secret.write_text(text)
        secret.chmod(0o600)
    project.config("true", notify={"webhook": f"file:{secret}"})
    said = refused("submit", "run.yaml", code=3)
    assert words in said and "canary" not in said
    assert not (project.folder / ".hpcrun/runs").exists()


def test_a_command_reads_it(project: Project) -> None:
    out = project.folder / "told"
    ended(project, command=["sh", "-c", 'cat >"$1"; pwd >>"$1"', "-", str(out)])
    typed("tick")
    told, where = out.read_text().splitlines()
    assert json.loads(told)["run"]["state"] == "Completed" and where == str(project.folder)


def test_a_command_that_is_not_there(project: Project) -> None:
    ended(project, command=["./no-such-program"])
    assert "no-such-program" in refused("tick", code=8)


def test_the_workspace_has_a_word_for_all_its_runs(project: Project, hook: Hook) -> None:
    typed("init")
    (project.folder / ".hpcrun/notify.yaml").write_text(f"on: [completed]\nwebhook: {hook.url}\n")
    typed("run", "--wait", "--experiment", "one", "--", "true")
    typed("run", "--wait", "--experiment", "two", "--parent", "@-1", "--", "true", code=2)
    project.config("true", notify={"command": ["true"]})
    typed("submit", "run.yaml", "--wait")
    assert hook.ends == ["one Completed"], "one that says something itself has said it"
    (project.folder / ".hpcrun/notify.yaml").write_text("mail: me\nwebhok: x\n")
    typed("run", "--wait", "--", "true")
    said = refused("tick", code=8)
    assert "webhok" in said and len(said.splitlines()) == 1
    (project.folder / ".hpcrun/notify.yaml").write_text("webhook: env:NOPE\n")
    assert "NOPE is not set" in refused("tick", code=8)


def test_the_workspaces_word_is_for_sweeps_too_and_not_for_trials(project: Project, hook: Hook) -> None:
    typed("init")
    (project.folder / ".hpcrun/notify.yaml").write_text(f"webhook: {hook.url}\n")
    file = sweep(project, 1, 3)
    config = json.loads((project.folder / file).read_text())
    (project.folder / file).write_text(json.dumps({k: v for k, v in config.items() if k != "notify"}))
    typed("sweep", "start", file, "--wait")
    typed("tick")
    assert [each["run"]["type"] for each in hook.told] == ["sweep"]


def test_of_a_pipeline_it_is_told_once(project: Project, hook: Hook) -> None:
    step = {"command": "true"}
    own = {"command": "true", "notify": {"webhook": hook.url}, "needs": ["a"]}
    pipeline = {"experiment": "pipe", "notify": {"webhook": hook.url}, "steps": {"a": step, "b": own}}
    (project.folder / "pipeline.yaml").write_text(json.dumps(pipeline))
    typed("submit", "pipeline.yaml", "--wait")
    typed("tick")
    told = sorted((each["run"]["type"], each["run"]["display_name"]) for each in hook.told)
    assert told == [("pipeline", None), ("script", "b")]


MAILER = "#!/bin/sh\nprintf '%s\\n' \"$*\" >>{out}\ncat >>{out}\n"


@pytest.fixture
def letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that letters come to, after the words that sendmail was given."""
    out, folder = tmp_path / "letters", tmp_path / "sbin"
    folder.mkdir()
    (folder / "sendmail").write_text(MAILER.format(out=out))
    (folder / "sendmail").chmod(0o755)
    monkeypatch.setattr(notice_ways, "_PLACES", (str(folder),))
    return out


TRIAL = r"""
[ "$x" != 3 ] || exit 3
mkdir -p "$HPCRUN_RUN_DIR/metrics"
printf '{"n": "loss", "v": %s, "t": 1.0}\n' "${x/13/Infinity}" >"$HPCRUN_RUN_DIR/metrics/rank_000.jsonl"
"""
"""Its loss is x; 3 is bad luck, and 13 beyond all bounds."""


def sweep(project: Project, *values: int, **notify: object) -> str:
    space = {"x": {"choice": [*values]}}
    section = {"space": space, "sampling": "grid", "metric": "loss", "goal": "minimize"}
    section |= {"pass_as": "variables"}
    return project.config(TRIAL, name="sweep.yaml", sweep=section, notify=notify)


def test_of_a_sweep_it_is_told_once(project: Project, hook: Hook, letters: Path) -> None:
    """Of the whole, with the best of its trials; of the trials not at all."""
    out = project.folder / "told"
    file = sweep(
        project, 2, 1, 3, webhook=hook.url, command=["sh", "-c", f"cat >>{out}"], mail="me@example.org"
    )
    assert "me@example.org" not in typed("sweep", "start", file, "--dry-run")
    done = hpcrun("sweep", "start", file, "--name", "mine", "--wait")
    assert (done.exit_code, done.stderr) == (0, "")
    typed("tick")
    (told,) = hook.told
    (run,) = [each for each in map(project.record, project.runs) if each["type"] == "sweep"]
    best = {trial["parameters"]["x"]: trial for trial in document("sweep", "status", run["id"])["trials"]}[1]
    assert told["event"] == f"{run['id']}/Completed"
    assert (told["run"]["id"], told["run"]["type"], told["run"]["state"]) == (run["id"], "sweep", "Completed")
    assert told["sweep"] == {
        "metric": "loss", "goal": "minimize", "total": 3, "states": {"Completed": 2, "Failed": 1},
        "stopped_early": 0,
        "best": {"number": 1, "id": best["id"], "value": 1.0, "parameters": {"x": 1}},
    }  # fmt: skip
    assert told["text"] == f"mine ({run['id']}): Completed; best loss 1 by trial 1 (x=1)"
    assert json.loads(out.read_text()) == told
    words, _, letter = letters.read_text().partition("\n")
    assert words == "-i -- me@example.org"
    message = email.message_from_string(letter, policy=email.policy.default)
    assert (message["To"], message["Subject"]) == ("me@example.org", f"hpcrun: {told['text']}")
    assert best["id"] in message.get_content() and "1 of its 3 trials failed" in message.get_content()
    assert {each["by"] for each in run["notify"]["sent"]} == {"webhook", "command", "mail"}
    for trial in document("ls", "--parent", run["id"])["runs"]:
        record = project.record(trial["id"])
        assert record["notify"] == {} and "notify" not in record["config"]["yaml"]
    assert not waiting(project)


def test_a_sweep_that_nobody_waits_for_is_told_of_by_a_tick(project: Project, hook: Hook) -> None:
    """So are its failures."""
    (project.folder / "src").mkdir()
    sweep_id = document("sweep", "start", sweep(project, 3, webhook=hook.url))["id"]

    def over() -> bool:
        typed("tick")
        return bool(document("show", sweep_id, "--no-refresh")["state"] == "Failed")

    until(over, "the sweep to end")
    typed("tick")
    assert hook.ends == ["exp Failed"] and hook.told[0]["sweep"]["best"] is None
    assert hook.told[0]["text"].endswith(": Failed (BadExit); no trial has reported loss")


def test_one_that_nobody_can_be_told_of_keeps_no_other_back(project: Project, hook: Hook) -> None:
    first = document("sweep", "start", sweep(project, 1, webhook=hook.url), "--wait")["id"]
    record = project.folder / ".hpcrun/runs" / first / "run.json"
    broken = json.loads(record.read_text())
    broken["notify"]["sent"], broken["config"]["sweep"] = [], 7
    record.write_text(json.dumps(broken))
    (project.folder / ".hpcrun/notices" / first).touch()
    ended(project, webhook=hook.url)
    assert refused("tick", code=8).startswith(f"hpcrun: {first}: nobody can be told of its end")
    assert [each["run"]["type"] for each in hook.told] == ["sweep", "script"]


def test_what_json_has_no_number_for(project: Project, hook: Hook) -> None:
    typed("sweep", "start", sweep(project, 13, webhook=hook.url), "--wait")
    assert hook.told[0]["sweep"]["best"]["value"] == "Infinity"
    assert "best loss inf by trial 0" in hook.told[0]["text"]


def test_the_sweeps_webhook_is_looked_up_first_and_kept_nowhere(
    project: Project, hook: Hook, tmp_path: Path
) -> None:
    secret = tmp_path.parent / f"{tmp_path.name}-hook"
    file = sweep(project, 1, webhook=f"file:{secret}")
    said = refused("sweep", "start", file, code=3)
    assert "cannot read" in said and not (project.folder / ".hpcrun/runs").exists()
    secret.write_text(f"{hook.url}?token=canary\n")
    secret.chmod(0o600)
    done = hpcrun("sweep", "start", file, "--wait")
    assert len(hook.told) == 1 and "canary" not in done.output
    for path in (project.folder / ".hpcrun").rglob("*"):
        assert not path.is_file() or b"canary" not in path.read_bytes(), path


def test_a_machine_that_sends_no_mail(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said when the sweep is started, and when it has ended."""
    monkeypatch.setattr(notice_ways, "mailer", lambda: None)
    file = sweep(project, 1, mail="me")
    (found,) = document("check", file)["findings"]
    assert (found["level"], found["path"]) == ("warning", "notify.mail") and "no sendmail" in found["message"]
    done = hpcrun("sweep", "start", file, "--wait")
    assert done.exit_code == 0 and "no sendmail" in done.stderr
    assert "(mail): this machine has no sendmail" in hpcrun("tick", "-v").stderr


def test_of_a_pipeline_a_letter_too(project: Project, letters: Path) -> None:
    pipeline = {"experiment": "pipe", "notify": {"mail": "me"}, "steps": {"a": {"command": "true"}}}
    (project.folder / "pipeline.yaml").write_text(json.dumps(pipeline))
    typed("submit", "pipeline.yaml", "--wait")
    typed("tick")
    assert letters.read_text().count("Subject: hpcrun: pipe_") == 1
