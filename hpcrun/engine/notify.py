"""Who is to be told of a run's end, as its record has it: found out when it is submitted."""

from __future__ import annotations

from typing import Any

from hpcrun.config.notify import read_notify
from hpcrun.errors import ConfigError
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.record import RunRecord
from hpcrun.models.notify import Notify, is_hook
from hpcrun.places import secrets

TRIAL = "trial"
"""The property of a run that has its number in a sweep: of its end the sweep alone is told."""


def wishes(notify: Notify | None, *, mail: bool = False) -> dict[str, Any]:
    """What a record holds of it: of a run all but the mail, which Slurm is told of; of what is no job also
    the ``mail``. Raises ConfigError where a webhook is not to be found where it is said to be."""
    if notify is None:
        return {}
    if notify.webhook is not None:
        url_of(notify.webhook)
    letter = {"mail": notify.mail} if mail and notify.mail is not None else {}
    return {"on": [*notify.on], "webhook": notify.webhook, "command": notify.command, **letter, "sent": []}


def wishes_for(record: RunRecord, paths: WorkspacePaths) -> dict[str, Any]:
    """What the record holds; or, of a run that says nothing itself and is nobody's child, what the workspace
    wants of such. Raises ConfigError."""
    if record.notify or record.parent is not None or not paths.notify.exists():
        return record.notify
    return wishes(read_notify(paths.notify))


def url_of(webhook: str) -> str:
    """The address itself. Raises ConfigError, which does not say it."""
    if not webhook.startswith(("env:", "file:")):
        return webhook
    url = secrets.resolve({"webhook": webhook}, where="notify")["webhook"].reveal()
    if not is_hook(url):
        raise ConfigError(f"what {webhook} holds is no https:// address, nor an http:// one of this machine")
    return url
