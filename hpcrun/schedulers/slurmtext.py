"""Slurm's text, read: sbatch's answer and complaints, squeue, sacct. Pure functions, no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from hpcrun.schedulers.base import JobFacts
from hpcrun.states import from_slurm

# The job's name comes last: it alone might hold the separator (another program's job of the same user).
SQUEUE_FORMAT = "%i|%T|%V|%S|%e|%r|%N|%j"
SACCT_FORMAT = (
    "JobID,State,ExitCode,Submit,Start,End,NodeList,"
    "NNodes,TotalCPU,ElapsedRaw,AllocCPUS,ReqMem,MaxRSS,TRESUsageInTot,JobName"
)
_SACCT_FIELDS = SACCT_FORMAT.count(",") + 1

_JOB_ID = re.compile(r"([0-9]+)(?:;[\w.-]+)?\Z")
_STEP = re.compile(r"([0-9][0-9_+]*)\.[A-Za-z0-9]+")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")

# After these the job may be queued all the same: sbatch had sent it, or cannot say whether it had.
_ANSWER_LOST = (
    "Socket timed out",
    "Zero Bytes were transmitted",
    "Connection reset",
    "Connection timed out",
    "Connection closed",
    "Message receive failure",
    "Message send failure",
    "Broken pipe",
    "Unexpected message received",
    "Communication shutdown failure",
    "Insane message length",
)
# After these it certainly is not: nobody took the message.
_NOT_SENT = (
    "Unable to contact slurm controller (connect failure)",
    "Connection refused",
    "Unable to resolve",
)

# Refusals that pass. First those of a limit on how many jobs may be queued, by Slurm's names for it.
_TOO_MANY = re.compile(r"\b(?:QOS|Assoc|Association)\w*Submit\w*Limit\b")
_NOT_NOW = (
    "Slurm temporarily unable to accept job",
    "Resource temporarily unavailable",
    "in standby mode",
    "Required partition not available",
    "I/O error writing script/environment to file",
    "Requested operation is presently disabled",
    "not responding",
)

# What sacct says where the site keeps no books at all: nothing is the matter then.
_NO_BOOKS = "accounting storage is disabled"

# After these srun may well end with 0, though nobody knows how the payload fared: its step was taken away.
_ABORTED = re.compile(r"^srun: (error: )?(Job step aborted|Timed out waiting for job step)", re.MULTILINE)

_HINTS = (
    ("Invalid account", "Your accounts: sacctmgr show associations user=$USER format=account,partition,qos"),
    ("invalid partition", "The partitions there are: sinfo -s"),
    ("Invalid qos", "Your QOS: sacctmgr show associations user=$USER format=account,qos"),
    ("Invalid generic resource", "The GPU types there are: sinfo -o '%P %G'; see scheduler.gpu_directive."),
    ("Invalid feature", "The constraints there are: sinfo -o '%P %f'"),
    ("Requested time limit is invalid", "The partition's limit: sinfo -o '%P %l'; see resources.time."),
    ("node configuration is not available", "No node has all that was asked for: sinfo -o '%P %c %m %G'"),
    ("More processors requested", "Fewer nodes, tasks or CPUs: sinfo -o '%P %D %c'"),
    ("Invalid job array", "The site's MaxArraySize: scontrol show config | grep MaxArraySize"),
    ("Job violates accounting/QOS policy", "A limit of your account or QOS: sacctmgr show qos; squeue --me"),
    ("Pathname of a file", "The script is too large for Slurm (max_script_size, 4 MB by default)."),
    ("too large", "The script is too large for Slurm (max_script_size, 4 MB by default)."),
    ("DOS line breaks", "The script holds CRLF line ends: convert the template or setup lines (dos2unix)."),
    ("Job dependency problem", "A job that was to be waited for has ended, and is forgotten: submit again."),
    ("Invalid reservation", "The reservations there are: scontrol show reservation"),
    ("Access/permission denied", "Slurm does not know you here, or you may not use this partition."),
)  # fmt: skip


def parse_job_id(stdout: str) -> str | None:
    """The job id in ``sbatch --parsable``'s output: ``id`` or ``id;cluster`` on a line of its own.

    A site's banner may stand around it. None unless there is exactly one such line.
    """
    found = [m.group(1) for line in stdout.splitlines() if (m := _JOB_ID.match(line.strip()))]
    return found[0] if len(found) == 1 else None


def answer_lost(stderr: str) -> bool:
    """Whether sbatch failed in a way after which the job may be queued."""
    return any(words in stderr for words in _ANSWER_LOST) and not was_not_sent(stderr)


def was_not_sent(stderr: str) -> bool:
    """Whether sbatch never reached the controller."""
    return any(words in stderr for words in _NOT_SENT)


def too_many(stderr: str) -> bool:
    """Whether sbatch was refused since too many jobs would be queued, by a limit of a QOS or an account."""
    return _TOO_MANY.search(stderr) is not None


def not_now(stderr: str) -> bool:
    """Whether the same may be taken later, as it is."""
    return any(words.lower() in stderr.lower() for words in _NOT_NOW) or was_not_sent(stderr)


def keeps_no_books(stderr: str) -> bool:
    """Whether sacct failed since the cluster has no accounting, by design."""
    return _NO_BOOKS in stderr.lower()


def step_aborted(log: str) -> bool:
    """Whether srun gave up the payload's step, by its words in the job's log."""
    return _ABORTED.search(log) is not None


def complaint(stderr: str) -> tuple[str, str | None]:
    """Slurm's own words for why it refused, and what to do about it."""
    lines = [
        re.sub(r"^(sbatch: (error: )?|allocation failure: )", "", x.strip())
        for x in stderr.splitlines()
        if x.strip()
    ]
    words = "; ".join(dict.fromkeys(lines)) or "sbatch gave no reason"
    lower = words.lower()
    hint = next((hint for sign, hint in _HINTS if sign.lower() in lower), None)
    return words, hint


def utc(text: str) -> str | None:
    """``2026-01-31T12:00:00``, printed by a command run with TZ=UTC, as ISO-8601 in UTC; None for ``N/A``,
    ``Unknown`` and the like."""
    return f"{text.strip()}Z" if _TIME.fullmatch(text.strip()) else None


Wanted = Iterable[str] | Mapping[str, str | None]
"""Job names; or the id of the job that is meant, by name, where it is known."""


def _better(new: str, known: JobFacts | None, meant: str | None) -> bool:
    """Of several jobs with one name (submitted twice) the one that is meant counts, else the lowest id."""
    if known is None or new == meant:
        return True
    return known.job_id != meant and _number(new) < _number(known.job_id)


def parse_squeue(stdout: str, names: Wanted) -> dict[str, JobFacts]:
    """Facts by job name, for the given names, from ``squeue --format=SQUEUE_FORMAT``."""
    wanted = dict(names) if isinstance(names, Mapping) else dict.fromkeys(names)
    facts: dict[str, JobFacts] = {}
    for line in stdout.splitlines():
        parts = line.strip().split("|", 7)
        if len(parts) != 8 or parts[7] not in wanted:
            continue
        job_id, word, submitted, started, end, why, nodes, name = parts
        if not _better(job_id, facts.get(name), wanted[name]):
            continue
        ended = is_final(word)
        facts[name] = JobFacts(
            job_id=job_id,
            word=word,
            why="" if why == "None" else why,
            submitted=utc(submitted),
            started=utc(started) if word not in ("PENDING", "PD") else None,
            ended=utc(end) if ended else None,
            nodes=nodes or None,
            expected_end=utc(end) if not ended and word not in ("PENDING", "PD") else None,
            expected=utc(started) if word in ("PENDING", "PD") else None,
        )
    return facts


def parse_sacct(stdout: str, names: Wanted) -> dict[str, JobFacts]:
    """Facts by job name, for the given names, from ``sacct -n -P --format=SACCT_FORMAT``.

    A job's steps have lines of their own, under names of their own: what they took is the job's.
    """
    wanted = dict(names) if isinstance(names, Mapping) else dict.fromkeys(names)
    facts: dict[str, JobFacts] = {}
    peaks: dict[str, dict[str, float]] = {}
    for line in stdout.splitlines():
        parts = [part.strip() for part in line.split("|", _SACCT_FIELDS - 1)]
        if len(parts) != _SACCT_FIELDS:
            continue
        job_id, word, exit_code, submitted, started, ended, nodes, *taken, name = parts
        if (step := _STEP.fullmatch(job_id)) is not None:
            _higher(peaks.setdefault(step.group(1), {}), _peaks(*taken[-2:]))
            continue
        if name not in wanted or not _better(job_id, facts.get(name), wanted[name]):
            continue
        code, _, signal = exit_code.partition(":")
        facts[name] = JobFacts(
            job_id=job_id,
            word=word,
            exit_code=_whole(code),
            signal=_whole(signal) or None,
            submitted=utc(submitted),
            started=utc(started),
            ended=utc(ended),
            nodes=None if nodes in ("", "None assigned") else nodes,
            usage=_usage(*taken[:5]) if utc(started) and utc(ended) else None,
            booked=True,
        )
    for known in facts.values():
        if known.usage is not None:
            known.usage.update(peaks.get(known.job_id, {}))
    return facts


def _usage(nodes: str, cpu: str, elapsed: str, cpus: str, memory: str) -> dict[str, float]:
    found = {
        "elapsed_seconds": _whole(elapsed),
        "cpu_seconds": _seconds(cpu),
        "allocated_cpus": _whole(cpus),
        "allocated_nodes": _whole(nodes),
        "requested_memory_bytes": _bytes(memory) or None,
    }
    return {key: value for key, value in found.items() if value is not None}


def _peaks(max_rss: str, total: str) -> dict[str, float]:
    """What a step took: its task with the largest peak, and the peaks of its tasks together."""
    memory = next((part[4:] for part in total.split(",") if part.startswith("mem=")), "")
    found = {"max_rss_bytes": _bytes(max_rss), "memory_bytes": _bytes(memory)}
    return {key: value for key, value in found.items() if value}


def _higher(known: dict[str, float], new: dict[str, float]) -> None:
    for key, value in new.items():
        known[key] = max(value, known.get(key, 0))


def _seconds(text: str) -> float | None:
    """``1-02:03:04``, ``02:03:04``, ``03:04.567``"""
    match = re.fullmatch(r"(?:(?:(\d{1,6})-)?(\d{1,9}):)?(\d{1,9}):(\d{1,9}(?:\.\d{1,9})?)", text, re.ASCII)
    if match is None:
        return None
    days, hours, minutes = (int(part or 0) for part in match.groups()[:3])
    return days * 86400 + hours * 3600 + minutes * 60 + float(match.group(4))


def _bytes(text: str) -> int | None:
    """``131044K``, ``1.50G``, ``4096``"""
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,9})?)([KMGTP]?)", text, re.ASCII)
    if match is None:
        return None
    return round(float(match.group(1)) * 2.0 ** (10 * " KMGTP".index(match.group(2) or " ")))


def is_final(word: str) -> bool:
    """Whether Slurm's word is one after which it does nothing more with the job."""
    known = from_slurm(word)
    return known is not None and known[0].final


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def _number(job_id: str) -> int:
    match = re.match(r"[0-9]{1,18}", job_id)
    return int(match.group()) if match else 0
