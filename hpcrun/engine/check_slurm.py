"""What the site's Slurm itself says of a run to come: five questions at most, each with a deadline.

Nothing is submitted: ``sbatch --test-only`` queues no job (it does take a job number).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence

from hpcrun.check.findings import Findings, Level
from hpcrun.check.limits import Asked, Excess, Limits, advice, excesses
from hpcrun.config.words import nearest
from hpcrun.engine.prepare import Plan
from hpcrun.errors import CommandError
from hpcrun.models.resources import Resources
from hpcrun.schedulers.slurm import QUERY_TIMEOUT, SBATCH_TIMEOUT
from hpcrun.schedulers.slurmlimits import (
    ASSOCIATION_FORMAT,
    NODES,
    PARTITIONS,
    QOS_FORMAT,
    Association,
    Qos,
    SlurmPartition,
    parse_associations,
    parse_partitions,
    parse_qos,
    parse_start,
)
from hpcrun.schedulers.slurmtext import answer_lost, complaint, was_not_sent
from hpcrun.shells.base import Shell
from hpcrun.units import Duration

PARTITION = ("resources", "partition")


def slurm_is_here() -> bool:
    """Whether this machine has Slurm's commands."""
    return shutil.which("sbatch") is not None


def ask_partitions(found: Findings, shell: Shell) -> dict[str, SlurmPartition]:
    """The cluster's partitions; empty, with a finding, where Slurm does not say."""
    said = []
    for argv in (PARTITIONS, NODES):
        result, trouble = _ask(shell, argv)
        if trouble:
            message = f"Slurm does not tell its partitions: {trouble}"
            found.add("warning", "Slurm", message, next="Does scontrol ping answer?")
            return {}
        said.append(result)
    return parse_partitions(*said)


def _ask(shell: Shell, argv: Sequence[str]) -> tuple[str, str]:
    """stdout, or in what way there is none."""
    try:
        result = shell.run(argv, timeout=QUERY_TIMEOUT, env={"TZ": "UTC"})
    except CommandError as exc:
        return "", exc.message
    if result.timed_out:
        return "", f"{argv[0]} did not answer within {QUERY_TIMEOUT:.0f} s"
    if not result.ok:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        return "", lines[-1] if lines else f"{argv[0]} ended with exit code {result.rc}"
    return result.stdout, ""


def ask_qos(res: Resources, shell: Shell) -> Qos | None:
    """The QOS that was asked for, where Slurm's accounting tells of it."""
    if res.qos is None:
        return None
    argv = ["sacctmgr", "--noheader", "--parsable2", "show", "qos", f"name={res.qos}", f"format={QOS_FORMAT}"]
    out, _ = _ask(shell, argv)
    return next((qos for qos in parse_qos(out) if qos.name == res.qos.lower()), None)


def check_qos(found: Findings, asked: Asked, qos: Qos) -> None:
    """The time beside the QOS's own limit, over which Slurm queues a job and never starts it."""
    if asked.time is not None and qos.time is not None and asked.time > qos.time:
        wanted, most = Duration(asked.time).slurm, Duration(qos.time).slurm
        message = f"{wanted} is more than QOS {qos.name} allows: {most}"
        found.add("problem", "Time", message, asked.keys["Time"], next=f"--time {most}, or another QOS")


def _over(asked: Asked, limits: Limits, qos: Qos | None) -> list[Excess]:
    """What is over a partition's limits, but for those that the QOS lifts."""
    few = asked.nodes < limits.min_nodes
    lifted_by = {"Time": "PartitionTimeLimit", "Nodes": "PartitionMinNodes" if few else "PartitionMaxNodes"}
    flags = qos.flags if qos is not None else frozenset()
    return [each for each in excesses(asked, limits) if lifted_by.get(each.code) not in flags]


def check_partitions(
    found: Findings,
    asked: Asked,
    res: Resources,
    partitions: Mapping[str, SlurmPartition],
    qos: Qos | None = None,
) -> list[str]:
    """The run beside the partition as Slurm has it; gives the names that were meant and are there."""
    default = next((name for name, each in partitions.items() if each.default), None)
    names = res.partition.split(",") if res.partition is not None else [default] if default else []
    there = [name for name in names if name in partitions]
    for name in names:
        if name not in partitions:
            close = nearest(name, partitions)
            message = f"Slurm has no partition {name}" + (f": did you mean {close}?" if close else "")
            found.add("problem", "Partition", message, PARTITION, next=f"There are: {', '.join(partitions)}")
    limits = {name: each.limits for name, each in partitions.items()}
    over = {name: _over(asked, limits[name], qos) for name in there}
    for name in there:
        # Of several partitions one that takes the run is enough.
        level: Level = "problem" if all(over.values()) else "warning"
        for excess in over[name]:
            hint = advice(excess, asked, limits)
            found.add(level, excess.code, excess.message, asked.keys[excess.code], next=hint)
        _state(found, partitions[name])
        _allowed(found, res, partitions[name])
    if asked.time is None and there:
        _default_time(found, partitions[there[0]])
    return there


def _state(found: Findings, partition: SlurmPartition) -> None:
    if partition.state != "UP":
        name = partition.limits.partition
        message = f"partition {name} is {partition.state}: what is in its queue does not start"
        level: Level = "warning" if partition.state in ("DOWN", "INACTIVE") else "problem"
        found.add(level, "Partition", message, PARTITION, next="Another partition, or wait.")


def _allowed(found: Findings, res: Resources, partition: SlurmPartition) -> None:
    """The account and the QOS that were asked for, beside those that the partition lets in."""
    name = partition.limits.partition
    if res.account is not None and (
        res.account in partition.denied_accounts
        or (partition.accounts is not None and res.account not in partition.accounts)
    ):
        only = f"It takes: {', '.join(partition.accounts)}" if partition.accounts else ""
        message = f"partition {name} is not open to account {res.account}"
        found.add("problem", "Account", message, ("resources", "account"), next=only)
    if res.qos is not None and (
        res.qos in partition.denied_qos or (partition.qos is not None and res.qos not in partition.qos)
    ):
        only = f"It takes: {', '.join(partition.qos)}" if partition.qos else ""
        message = f"partition {name} is not open to QOS {res.qos}"
        found.add("problem", "QOS", message, ("resources", "qos"), next=only)


def _default_time(found: Findings, partition: SlurmPartition) -> None:
    limits = partition.limits
    if partition.default_time or limits.time:
        given = Duration(partition.default_time or limits.time or 0).slurm
        message = f"no time is asked for: partition {limits.partition} gives {given}"
        found.add("note", "Time", message, next="--time DURATION; shorter jobs start sooner.")


def check_test_only(found: Findings, plan: Plan) -> bool:
    """Ask sbatch what it would do with the very script; whether it would take the job."""
    folder = str(plan.run_dir)
    argv = [
        *("sbatch", "--test-only", f"--job-name={plan.run_id}", f"--chdir={folder}"),
        f"--output={folder.replace('%', '%%')}/system_logs/job.txt",
    ]
    try:
        result = plan.target.shell.run(argv, timeout=SBATCH_TIMEOUT, stdin=plan.script, env={"TZ": "UTC"})
    except CommandError as exc:
        found.add("warning", "Slurm", exc.message)
        return False
    words, hint = complaint(result.stderr)
    if result.ok:
        found.start = parse_start(result.stderr)
        return True
    if result.timed_out or answer_lost(result.stderr) or was_not_sent(result.stderr):
        said = "no answer" if result.timed_out else words
        found.add(
            "warning",
            "Slurm",
            f"no word on whether it would take the job: {said}",
            next="Does scontrol ping answer?",
        )
        return False
    found.add("problem", "Slurm", f"the job would be refused: {words}", next=hint or "")
    return False


def check_associations(
    found: Findings, res: Resources, partitions: Sequence[str], shell: Shell, accepted: bool, user: str
) -> None:
    """The account and the QOS beside those that the user has.

    A cluster need not enforce them: where sbatch has ``accepted`` the job, they are worth a warning.
    """
    if res.account is None and res.qos is None:
        return
    argv = ["sacctmgr", "--noheader", "--parsable2", "show", "associations"]
    out, trouble = _ask(shell, [*argv, f"user={user}", f"format={ASSOCIATION_FORMAT}"])
    known = parse_associations(out)
    if trouble or not known:
        why = trouble or f"Slurm's accounting has no associations of {user}"
        found.add("note", "Unchecked", f"account and QOS are not looked up: {why}")
        return
    level: Level = "warning" if accepted else "problem"
    usable = [each for each in known if not each.partition or not partitions or each.partition in partitions]
    accounts = list(dict.fromkeys(each.account for each in usable))
    if res.account is not None and res.account.lower() not in accounts:
        close = nearest(res.account, accounts)
        within = f" in {', '.join(partitions)}" if any(each.partition for each in known) else ""
        message = f"{user} has no account {res.account}{within}"
        message += f": did you mean {close}?" if close else ""
        hint = f"{user}'s accounts: {', '.join(accounts)}" if accounts else ""
        found.add(level, "Account", message, ("resources", "account"), next=hint)
        usable = [each for each in known if close is not None and each.account == close]
    elif res.account is not None:
        usable = [each for each in usable if each.account == res.account.lower()]
    _qos(found, res, usable, user, level)


def _qos(found: Findings, res: Resources, usable: Sequence[Association], user: str, level: Level) -> None:
    qos = list(dict.fromkeys(name for each in usable for name in each.qos))
    if res.qos is None or not qos or res.qos.lower() in qos:
        return
    close = nearest(res.qos, qos)
    whose = f" with account {res.account}" if any(each.account == res.account for each in usable) else ""
    message = f"{user} has no QOS {res.qos}{whose}" + (f": did you mean {close}?" if close else "")
    found.add(level, "QOS", message, ("resources", "qos"), next=f"There are: {', '.join(qos)}")
