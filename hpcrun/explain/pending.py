"""Runs that have not ended: why a job waits, in words, for every reason that squeue has a word for."""

from __future__ import annotations

import re
from dataclasses import replace

from hpcrun.explain.facts import Explanation, Facts, cut, tail
from hpcrun.explain.sooner import sooner
from hpcrun.states import RunState
from hpcrun.units import human_seconds

_PARTITION = "The partitions and their limits: sinfo -o '%P %a %l %D %c %m %G'"
_LIMITS = "Your limits: sacctmgr show associations user=$USER; of a QOS: sacctmgr show qos"
_MINE = "What you have in the queue: squeue --me"
_RELEASE = "Release it: scontrol release {job}"
_JOB = "All that Slurm knows: scontrol show job {job}"
_AGAIN = "Cancel it, correct that and submit again: hpcrun cancel {run}"
_ASK = "Ask the site's people."
_RESERVATIONS = "Reservations: scontrol show reservation"

# squeue(1), JOB REASON CODES. Words for the reason, then what would help.
REASONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Priority": ("Jobs of a higher priority go first.", ("What weighs in: sprio -l",)),
    "Resources": ("It is next in line, and what it asks for is not free yet.", ()),
    "Dependency": ("It waits for another job.", (_JOB,)),
    "DependencyNeverSatisfied": ("It waits for a job that ended otherwise than it was to.", (_AGAIN,)),
    "BeginTime": ("It is not to start yet: a start was asked for, or it was requeued.", (_JOB,)),
    "JobHeldUser": ("It is held, by you.", (_RELEASE,)),
    "JobHeldAdmin": ("It is held, by an administrator.", (_ASK,)),
    "JobHoldMaxRequeue": ("It was requeued too often, and is held.", (_JOB, _RELEASE)),
    "JobArrayTaskLimit": ("As many tasks of the array run as may run at once.", ()),
    "Pack": ("The job that it shares has begun, and other trials of its sweep go before it.", ()),
    "Held": ("It is held.", (_JOB, _RELEASE)),
    "Requeued": ("It was put back into the queue, and starts anew.", ()),
    "ReqNodeNotAvail": (
        "A node that it needs is down, drained, reserved or taken by a maintenance to come.",
        (
            f"{_RESERVATIONS}; nodes: sinfo -R",
            "If it is a maintenance: a --time that ends before it lets the run start before it.",
        ),
    ),
    "Reservation": (
        "It waits for its reservation to begin.",
        (_RESERVATIONS,),
    ),
    "ReservationDeleted": ("The reservation that it asked for is gone.", (_AGAIN,)),
    "Licenses": ("A licence that it asks for is not free.", ("Licences: scontrol show licenses",)),
    "PartitionTimeLimit": ("It asks for more time than its partition allows.", (_PARTITION, _AGAIN)),
    "PartitionNodeLimit": ("It asks for more or fewer nodes than its partition has.", (_PARTITION, _AGAIN)),
    "PartitionDown": ("Its partition is down.", (_PARTITION, _ASK)),
    "PartitionInactive": ("Its partition starts no jobs at the moment.", (_PARTITION, _ASK)),
    "PartitionConfig": ("It asks for something that its partition does not allow.", (_PARTITION, _AGAIN)),
    "NodeDown": ("A node that it needs is down.", ("Nodes: sinfo -R", _ASK)),
    "BadConstraints": ("No node can ever have all that it asks for.", (_PARTITION, _AGAIN)),
    "Constraints": ("No node can have all that it asks for at the moment.", (_PARTITION, _AGAIN)),
    "InvalidAccount": ("Its account is not, or no longer, valid.", (_LIMITS, _AGAIN)),
    "AccountNotAllowed": ("Its account may not use its partition.", (_PARTITION, _AGAIN)),
    "AccountingPolicy": ("A limit of your account is reached.", (_MINE, _LIMITS)),
    "InvalidQOS": ("Its QOS is not, or no longer, valid.", (_LIMITS, _AGAIN)),
    "QOSNotAllowed": ("Its QOS may not be used with its account or partition.", (_LIMITS, _AGAIN)),
    "QOSUsageThreshold": ("More was used than its QOS needs to be below.", (_LIMITS,)),
    "QOSJobLimit": ("As many jobs of its QOS run as may run at once.", (_MINE, _LIMITS)),
    "QOSResourceLimit": ("A limit of its QOS is reached.", (_MINE, _LIMITS)),
    "QOSTimeLimit": ("It asks for more time than its QOS has left.", (_LIMITS,)),
    "AssociationJobLimit": ("As many jobs of your account run as may run at once.", (_MINE, _LIMITS)),
    "AssociationResourceLimit": ("A limit of your account is reached.", (_MINE, _LIMITS)),
    "AssociationTimeLimit": ("It asks for more time than your account has left.", (_LIMITS,)),
    "MaxMemPerLimit": ("It asks for more memory a node or a CPU than is allowed.", (_PARTITION, _AGAIN)),
    "Prolog": ("The node is being prepared for it.", ()),
    "Cleaning": ("What is left of its last start is being cleared away.", ()),
    "SchedDefer": ("The scheduler was told not to start jobs as soon as they come.", ("It starts soon.",)),
    "BurstBufferOperation": ("A burst buffer failed.", (_JOB, _ASK)),
    "BurstBufferResources": ("The burst buffer has no room for it yet.", (_JOB,)),
    "BurstBufferStageIn": ("Its data is being brought to the burst buffer.", ()),
    "FedJobLock": ("The clusters of the federation are agreeing on who runs it.", ()),
    "FrontEndDown": ("No front end is up to start it.", (_ASK,)),
    "InactiveLimit": ("It reached the limit of a job that does nothing.", (_ASK,)),
    "JobLaunchFailure": ("Its last start failed: a file system, a program or a node.", (_JOB, _RELEASE)),
    "launch": ("Its last start failed, and it is held.", (_JOB, _RELEASE)),
    "NonZeroExitCode": ("Its last start ended with an exit code that is not 0.", (_JOB,)),
    "RaisedSignal": ("Its last start was ended by a signal.", (_JOB,)),
    "OutOfMemory": ("Its last start took too much memory.", (_JOB, _AGAIN)),
    "SystemFailure": ("Something in Slurm, a file system or the network failed.", (_JOB, _ASK)),
    "TimeLimit": ("Its last start reached its time limit.", (_JOB, _AGAIN)),
    "DeadLine": ("It can no longer be done before its deadline.", (_AGAIN,)),
    "None": ("The scheduler has not looked at it yet.", ()),
    "ReservationInvalid": ("The reservation that it asked for cannot be used.", (_RESERVATIONS, _AGAIN)),
    "PowerNotAvail": ("There is not enough power for it at the moment.", ()),
    "PowerReserved": ("The power that it needs is reserved.", (_RESERVATIONS,)),
    "MaxPoweredUpNodes": ("As many nodes are switched on as may be; it waits for one of them.", ()),
    "MpiPortsBusy": ("The ports that its MPI steps reserve are taken on its nodes.", (_JOB,)),
    "BlockMaxError": ("Too many of the machine's blocks are in trouble.", (_ASK,)),
    "BlockFreeAction": ("A block of the machine is being freed for it.", ()),
    "ReqNodesNotAvail": ("A node that it needs cannot be had.", ("Nodes: sinfo -R",)),
}  # fmt: skip

_THINGS = {
    "cpu": "CPUs", "mem": "memory", "memory": "memory", "node": "nodes", "gres": "GPUs or other GRES",
    "billing": "billing units", "bb": "burst buffer", "energy": "energy", "license": "licences",
    "jobs": "running jobs", "job": "running jobs", "submitjobs": "jobs in the queue", "wall": "time",
    "submitjob": "jobs in the queue", "submit": "jobs in the queue", "wallduration": "time",
    "unknown": "a resource",
}  # fmt: skip
_LIMIT = re.compile(
    r"(?P<who>QOS|Assoc)?(?P<kind>Grp|Max|Min)(?P<thing>SubmitJobs?|Submit|WallDuration|Wall|Memory|Mem|Cpu|CPU"
    r"|Node|GRES|Gres|Billing|BB|Energy|License|Jobs|Job|Unknown)(?P<time>RunMinutes|RunMins|Minutes)?"
    r"(?:Per(?P<per>User|Account|Job|Node))?(?:Limit|NotSatisfied)?"
)


def reason_words(reason: str) -> tuple[str, tuple[str, ...]]:
    """What a reason of Slurm's means and what would help; one that is not known is quoted as it is."""
    word = re.split(r"[,\s]", reason.strip(), maxsplit=1)[0]
    if word in REASONS:
        return REASONS[word]
    match = _LIMIT.fullmatch(word)
    if match is not None:
        return _limit_words(match)
    return f'Slurm says "{cut(reason)}".', (_JOB,)


def _limit_words(match: re.Match[str]) -> tuple[str, tuple[str, ...]]:
    whose = {"QOS": "its QOS", "Assoc": "your account"}.get(match["who"] or "", "its partition or QOS")
    thing = _THINGS[match["thing"].lower()]
    if match["time"]:
        thing = f"{thing} times minutes"
    per = match["per"]
    many = {
        "Job": " for one job",
        "Node": " on one node",
        "User": " for one user",
        "Account": " for one account",
    }
    if match["kind"] == "Min":
        return f"It asks for less {thing} than {whose} wants at least.", (_LIMITS, _AGAIN)
    if match["kind"] == "Grp":
        return (
            f"All jobs of {whose} together have reached its limit of {thing}.",
            ("It starts once others of them have ended.", _MINE, _LIMITS),
        )
    if per in ("Job", "Node"):
        return f"It asks for more {thing} than {whose} allows{many[per]}.", (_LIMITS, _AGAIN)
    per_whom = many.get(per or "", " for one user")
    return f"The limit of {thing} that {whose} sets{per_whom} is reached.", (_MINE, _LIMITS)


def under_way(facts: Facts) -> Explanation:
    """Of a run that has not ended: where it stands, and why it waits."""
    state = facts.state
    if facts.steps:
        return _pipeline(facts)
    if facts.reason.startswith("Dependency") and facts.before:
        return _waits_for_others(facts)
    if state is RunState.QUEUED and (facts.reason or facts.start):
        return _waits(replace(facts, reason=facts.reason or "None"))
    words = {
        RunState.NOT_STARTED: "The run is written down, and has not reached the queue yet.",
        RunState.PREPARING: "The run is being made ready.",
        RunState.QUEUED: "The run waits for its turn.",
        RunState.STARTING: "The run's nodes, or its environment, are being set up.",
        RunState.RUNNING: "The run is running.",
        RunState.PAUSED: "The scheduler has suspended the run; it goes on by itself, or when it is resumed.",
        RunState.FINALIZING: "The payload has ended; what is around it is coming to its end.",
        RunState.CANCEL_REQUESTED: "The end of the run was asked for.",
        RunState.NOT_RESPONDING: "The scheduler does not answer; the run stands as it was last seen.",
    }[state]
    if facts.elapsed is not None and state in (RunState.RUNNING, RunState.PAUSED):
        words += f" It began {human_seconds(facts.elapsed)} ago"
        words += f", of {human_seconds(facts.time_limit)} asked for." if facts.time_limit else "."
    help_ = [f"Watch it: hpcrun logs -f {facts.short}"]
    return Explanation(state.value, words, tail(facts.first_log.text, 3), help_)


def _pipeline(facts: Facts) -> Explanation:
    ended = sum(step.state.final for step in facts.steps)
    words = f"Of the pipeline's {len(facts.steps)} steps {ended} have ended."
    under_way = [step for step in facts.steps if not step.state.final]
    help_ = [
        f"Why {step.name} waits, or how it stands: hpcrun explain {step.short}" for step in under_way[:1]
    ]
    return Explanation(facts.state.value, words, [step.words for step in facts.steps], help_)


def _waits_for_others(facts: Facts) -> Explanation:
    left = [other for other in facts.before if other.met is not True] or [*facts.before]
    what = " and ".join(f"{other.run_id} to {other.wanted}" for other in left)
    evidence = [other.words for other in left]
    if facts.state is RunState.QUEUED and facts.slurm:
        evidence.append(f"squeue: {cut(facts.reason)}")
    help_ = [f"How that one stands: hpcrun explain {other.short}" for other in left]
    return Explanation("Waiting", f"The run waits for {what}.", evidence, help_)


def _waits(facts: Facts) -> Explanation:
    words, help_ = reason_words(facts.reason)
    names = {"job": facts.job_id or "JOB", "run": facts.short}
    if not facts.slurm:
        return Explanation("Waiting", f"The run waits. {words}")
    return Explanation(
        "Waiting",
        f"The run waits. {words}{_expected(facts)}",
        [f"squeue: {cut(facts.reason)}"],
        [*sooner(facts), *(text.format(**names) for text in help_)],
    )


def _expected(facts: Facts) -> str:
    if not facts.start or facts.reason.startswith("JobHeld"):  # a held job's start is what it was before
        return ""
    left = f" (in {human_seconds(facts.starts_in)})" if facts.starts_in and facts.starts_in > 0 else ""
    return f" Slurm expects it to start at {facts.start}{left}."
