"""The ways in which somebody is told: a webhook, a command, a letter."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from typing import Any

from hpcrun.engine.notice_text import letter
from hpcrun.engine.notify import url_of
from hpcrun.errors import CommandError, ConfigError
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.record import RunRecord
from hpcrun.shells.local import LocalShell

HOOK_TIMEOUT, COMMAND_TIMEOUT = 15.0, 60.0
"""Seconds."""

Send = Callable[[WorkspacePaths, RunRecord, dict[str, Any]], None]
"""Tell the document of a run. Raises CommandError."""

_SUBJECT = 200
"""Characters."""

_PLACES = ("/usr/sbin", "/usr/lib", "/usr/local/sbin")
"""Where sendmail is, which cron's PATH need not have."""


def run_command(paths: WorkspacePaths, record: RunRecord, told: dict[str, Any]) -> None:
    argv = [str(word) for word in record.notify["command"]]
    folder = paths.folder.parent
    done = LocalShell().run(argv, timeout=COMMAND_TIMEOUT, stdin=json.dumps(told) + "\n", cwd=folder)
    done.check("the command to be told did not succeed")


def mailer() -> str | None:
    """The program of this machine that takes letters."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_PLACES])
    return shutil.which("sendmail", path=path)


def no_mail(notify: Mapping[str, Any]) -> str:
    """What is to be said where a letter is wanted, and this machine cannot send it; else empty."""
    if not notify.get("mail") or mailer() is not None:
        return ""
    return "nobody will be mailed by this machine, which has no sendmail; a webhook or a command would work"


def mail(paths: WorkspacePaths, record: RunRecord, told: dict[str, Any]) -> None:
    """Of what is no job, and so not Slurm's to mail about."""
    program = mailer()
    if program is None:
        raise CommandError("this machine has no sendmail to mail by")
    from email.message import EmailMessage
    from email.policy import SMTPUTF8

    message = EmailMessage(SMTPUTF8.clone(linesep="\n", max_line_length=990))  # a subject stays one line
    message["To"] = record.notify["mail"]
    subject = f"hpcrun: {told['text']}"
    subject = subject if len(subject) <= _SUBJECT else f"{subject[: _SUBJECT - 1]}…"
    message["Subject"] = "".join(c if c.isprintable() else "?" for c in subject)
    message["Auto-Submitted"] = "auto-generated"
    text = letter(str(paths.folder.parent), told)
    message.set_content(text.encode("utf-8", "replace").decode(), charset="utf-8")
    argv = [program, "-i", "--", record.notify["mail"]]
    done = LocalShell().run(argv, timeout=COMMAND_TIMEOUT, stdin=message.as_bytes(), cwd="/")
    done.check("the letter was not taken")


def post(paths: WorkspacePaths, record: RunRecord, told: dict[str, Any]) -> None:
    try:
        url = url_of(record.notify["webhook"])
    except ConfigError as error:
        raise CommandError("; ".join(problem.message for problem in error.problems)) from None
    data = json.dumps(told).encode("ascii")
    said = [f"did not answer within {HOOK_TIMEOUT:.0f} s"]
    # In a thread: a server that says a byte a second keeps within every time limit there is.
    thread = threading.Thread(target=lambda: said.append(_send(url, data, told["event"])), daemon=True)
    thread.start()
    thread.join(HOOK_TIMEOUT)
    if said[-1]:
        raise CommandError(f"the webhook {said[-1]}")


def _send(url: str, data: bytes, event: str) -> str:
    """Post a document; what was the matter. Never says where to: that may be a secret."""
    import urllib.error
    import urllib.request

    class Refuse(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *args: Any, **more: Any) -> None:
            return None  # then it is an error: it would lead who knows where

    from hpcrun import __version__

    headers = {"Content-Type": "application/json", "User-Agent": f"hpcrun/{__version__}"}
    headers["Idempotency-Key"] = event
    request = urllib.request.Request(url, data=data, headers=headers, method="POST")
    try:
        with urllib.request.build_opener(Refuse).open(request, timeout=HOOK_TIMEOUT):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return f"answered {error.code}"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return f"could not be reached: {getattr(reason, 'strerror', None) or type(reason).__name__}"


WAYS: dict[str, Send] = {"webhook": post, "command": run_command, "mail": mail}
