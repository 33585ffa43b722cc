"""Asking a site what it is, with one script over one connection."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcrun.errors import CommandError
from hpcrun.probe.answers import NOTHING, Answer, read_answers, script
from hpcrun.probe.facts import Account, Facts, Offered, read_facts
from hpcrun.schedulers.slurmlimits import (
    Association,
    SlurmPartition,
    parse_associations,
    parse_partitions,
)

if TYPE_CHECKING:
    from hpcrun.models.site import Site
    from hpcrun.shells.base import PosixShell

PROBE_TIMEOUT = 300.0
"""Seconds for all questions together. Each has a limit of its own there; modules may take a while."""

MOST = 8_000_000
"""Bytes that a site may say in all."""


@dataclass(frozen=True)
class Asked:
    """What a site said, how long that took in seconds, and by how many its clock is ahead of ours."""

    facts: Facts
    seconds: float
    skew: float


def ask(shell: PosixShell, site: Site | None = None) -> Asked:
    """Ask a site; where there is a description already, also for what it names.

    Raises CommandError, UnreachableError, LoginRequired.
    """
    kind, root, conda, container = "slurm", "", "", ""
    if site is not None:
        kind, root, conda = site.scheduler.type, site.root or "", site.conda.root or ""
        container = site.apptainer.executable if "apptainer" in site.model_fields_set else ""
    answer = bytearray()
    heard = [0.0]

    def take(data: bytes) -> None:
        # The clock is what it tells first; modules may take a while.
        heard[0] = heard[0] or (time.time() if data else 0.0)
        answer.extend(data)
        if len(answer) > MOST:
            raise CommandError(
                f"the site's answer has more than {MOST} bytes", hint="What it says is no answer."
            )

    before = time.time()
    result = shell.script(script("probe"), [kind, root, conda, container], timeout=PROBE_TIMEOUT, sink=take)
    if result.rc is None or result.lost:
        raise CommandError(result.describe("asking the site"))
    facts = facts_of(answer.decode("utf-8", "replace"))
    if not facts.whole:
        raise CommandError(
            "the site's answer has no end", hint=result.stderr.strip()[-500:] or "Is /bin/sh a shell there?"
        )
    return Asked(facts, result.seconds, facts.skew(before, heard[0]))


def facts_of(text: str) -> Facts:
    """The facts in what the script printed."""
    answers = read_answers(text)
    there = parse_partitions(_said(answers, "partitions"), _said(answers, "nodes"))
    known = parse_associations(_said(answers, "accounts"))
    accounts = [Account(each.account, each.partition, each.qos) for each in known]
    offered = {name: _offered(each, known) for name, each in there.items()}
    return read_facts(answers, offered, accounts)


def _said(answers: Mapping[str, Sequence[Answer]], name: str) -> str:
    answer = (answers.get(name) or [NOTHING])[0]
    return answer.text if answer.ok else ""


def _offered(there: SlurmPartition, known: Sequence[Association]) -> Offered:
    mine = {each.account for each in known}
    qos = {name for each in known for name in each.qos}
    closed = ""
    if there.accounts is not None and known and not mine.intersection(there.accounts):
        closed = f"only for account {', '.join(there.accounts[:5])}"
    elif mine and mine <= set(there.denied_accounts):
        closed = f"not for account {', '.join(sorted(mine)[:5])}"
    elif there.qos is not None and qos and not qos.intersection(there.qos):
        closed = f"only with QOS {', '.join(there.qos[:5])}"
    return Offered(there.limits, there.default, there.state, there.default_time, closed)
