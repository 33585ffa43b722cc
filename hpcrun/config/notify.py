"""``notify.yaml``: who is told of the end of every run of a workspace that says nothing of it itself."""

from __future__ import annotations

from pathlib import Path

from hpcrun.config.tree import MapNode
from hpcrun.config.validate import build
from hpcrun.config.yamltree import read_file
from hpcrun.errors import Problem
from hpcrun.models.notify import Notify


def read_notify(path: Path) -> Notify:
    """What the file says, in the keys of run.yaml's ``notify``, but no mail. Raises ConfigError."""
    tree, problems = read_file(path)
    return build(Notify, tree, known=[*problems, *_mail(tree)])


def _mail(tree: MapNode) -> list[Problem]:
    if "mail" not in tree.entries:
        return []
    hint = "For all runs of a site: scheduler: {sbatch: {mail-user: …, mail-type: END}} in its file."
    where = str(tree.key_place("mail"))
    return [Problem("is Slurm's to send, and stands in a run's script", where=where, path="mail", hint=hint)]
