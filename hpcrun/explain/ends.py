"""What the scheduler and hpcrun's own script tell of an end."""

from __future__ import annotations

import math
import re
import signal

from hpcrun.explain.efficiency import advice
from hpcrun.explain.facts import Explanation, Facts, last_line, tail
from hpcrun.states import Reason, RunState
from hpcrun.units import Duration, Memory, human_bytes, human_seconds

_MEMORY = re.compile(
    r"exceeded (?:job |step |virtual )?memory limit|oom[-_ ]?kill|Out Of Memory", re.IGNORECASE
)
_PEAK = re.compile(r"memory limit \((\d{1,18}) > (\d{1,18})\)")
_TIME = re.compile(r"DUE TO TIME LIMIT")
_TAKEN = re.compile(r"leaves: the run belongs to job")
_STEP = re.compile(
    r"\b(epoch|step|iteration|iter|batch)\W{0,3}(\d{1,9}) ?(?:/|of) ?(\d{1,9})\b", re.IGNORECASE
)
_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT)


def system_hint(facts: Facts) -> str:
    return f"What went on around it: hpcrun logs {facts.short} --system"


def steps_rule(facts: Facts) -> Explanation | None:
    """A pipeline ends as its steps do; the first that failed is looked at."""
    if not facts.steps:
        return None
    first = next((step for step in facts.steps if step.state is RunState.FAILED), None)
    evidence = [step.words for step in facts.steps]
    if first is not None:
        next_ = [f"Why: hpcrun explain {first.short}"]
        return Explanation("StepFailed", f"Step {first.words}, and so is the pipeline.", evidence, next_)
    if facts.state is RunState.CANCELED:
        return Explanation("Canceled", "A step of the pipeline was canceled.", evidence)
    return Explanation("Completed", "All steps of the pipeline completed.", evidence)


def dependency_rule(facts: Facts) -> Explanation | None:
    if facts.reason != Reason.DEPENDENCY:
        return None
    missed = [other for other in facts.before if other.met is False]
    said = [
        f"It was to wait for {each.run_id} to {each.wanted}, and that one is {each.how}." for each in missed
    ]
    why = " ".join(said)
    help_ = [f"Why that one ended so: hpcrun explain {each.short}" for each in missed]
    return Explanation(
        "Dependency",
        f"The run never began. {why or facts.message}".rstrip(),
        [facts.message] if facts.message and not why else [],
        [*help_, "Once that is mended, submit it again, or its pipeline."],
    )


def completed_rule(facts: Facts) -> Explanation | None:
    if facts.state is not RunState.COMPLETED:
        return None
    words, help_ = "The run completed: its payload ended with exit code 0.", []
    if facts.elapsed is not None and facts.time_limit:
        share = 100 * facts.elapsed / facts.time_limit
        used = "less than 1" if share < 1 else f"{share:.0f}"
        words += (
            f" It took {human_seconds(facts.elapsed)} of the {human_seconds(facts.time_limit)} asked for,"
            f" {used} %."
        )
        if facts.slurm and share < 25 and facts.time_limit >= 1800:
            enough = max(600, math.ceil(facts.elapsed * 1.5 / 300) * 300)
            help_.append(f"A shorter limit is scheduled sooner: --time {Duration(enough).slurm} would do.")
    return Explanation("Completed", words, [], [*help_, *advice(facts)])


def canceled_rule(facts: Facts) -> Explanation | None:
    if facts.state is not RunState.CANCELED:
        return None
    if facts.reason == Reason.STOPPED_EARLY:
        words = f"The trial lagged behind the others of its sweep, and was {facts.message}."
        return Explanation("StoppedEarly", words, [], ["That is no fault of the run's."])
    said = f" {facts.message}" if facts.message else ""
    return Explanation(
        "Canceled",
        f"The run was canceled, by hpcrun cancel, by scancel or by an administrator.{said}",
        tail(facts.system, 3),
        ["Submit it again, if that was not meant."],
    )


def rejected_rule(facts: Facts) -> Explanation | None:
    if facts.reason != Reason.REJECTED:
        return None
    return Explanation(
        "Rejected",
        "The scheduler refused the job; nothing was queued.",
        [facts.message] if facts.message else [],
        [*([facts.hint] if facts.hint else []), "Then submit again: the key, if it had one, is free."],
    )


def taken_rule(facts: Facts) -> Explanation | None:
    line = last_line(facts.system, _TAKEN)
    if facts.exit_code != 102 or line is None:
        return None
    return Explanation(
        "Taken",
        "Another job had this run already, so this one left without running anything.",
        [line],
        ["Nothing is lost: the other job's outputs and logs are the run's. Do not submit job.sh by hand."],
    )


def folder_rule(facts: Facts) -> Explanation | None:
    if facts.reason not in (Reason.LAUNCH_FAILED, Reason.LOST) and facts.exit_code != 101:
        return None
    said = last_line(facts.system, re.compile(r"there is no folder"))
    if facts.folder and facts.code and said is None:
        return None
    missing = "folder" if not facts.folder else "copy of the code"
    return Explanation(
        "FolderMissing",
        f"The run's {missing} was not there when the job began: it was deleted or moved after submission,"
        " or the compute nodes do not see the file system it is on.",
        [line for line in (said, facts.message) if line],
        [
            "Submit again: the snapshot is kept in the history.",
            "See that the workspace, or the site's root, is on a file system that compute nodes share, and is"
            " not cleaned up while jobs wait.",
        ],
    )


def environment_rule(facts: Facts) -> Explanation | None:
    if facts.reason != Reason.ENVIRONMENT:
        return None
    if facts.built:
        return Explanation(
            "Environment",
            f"{facts.message[:1].upper()}{facts.message[1:]}",
            tail(facts.built, 15),
            [
                "Nothing was started. Correct what environment in run.yaml names, and submit again.",
                "All that was said while it was made: system_logs/environment.txt in the run's folder.",
            ],
        )
    return Explanation(
        "Environment",
        f"The run's environment could not be set up: {facts.message or 'no more is known'}.",
        tail(facts.system, 5),
        [
            "See environment in run.yaml: names and paths must hold on the compute nodes, not only here.",
            system_hint(facts),
        ],
    )


def speaks_of_memory(text: str) -> bool:
    """Whether Slurm says in a job's log that it killed something for its memory."""
    return _MEMORY.search(text) is not None


def memory_rule(facts: Facts) -> Explanation | None:
    """Slurm's own word, or, where it has none, what it says in the job's log as it kills a step."""
    line = last_line(facts.system, _PEAK) or last_line(facts.system, _MEMORY)
    if facts.reason != Reason.OUT_OF_MEMORY and (line is None or facts.reason == Reason.TIMEOUT):
        return None
    peak = _peak(line or "", facts.memory)
    words = "The run took more memory than it had asked for, and was ended."
    if facts.memory:
        words += f" Asked: {Memory(facts.memory).slurm} a node."
    if peak:
        words += f" It was at {human_bytes(peak * 1024**2)} when it was ended."
    elif seen := (facts.usage or {}).get("max_rss_bytes"):
        words += f" The most that Slurm saw one of its tasks take is {human_bytes(seen)}."
    return Explanation("OutOfMemory", words, [line] if line else [], _more_memory(facts, peak))


def _peak(line: str, asked: int | None) -> int | None:
    """MiB at the end, from ``(USED > LIMIT)``: bytes, or KiB with an older Slurm; the limit tells which."""
    match = _PEAK.search(line)
    if match is None:
        return None
    used, limit = int(match.group(1)), int(match.group(2))
    in_bytes = limit >= asked * 1024 * 32 if asked else limit >= 2**28
    return round(used / (1024**2 if in_bytes else 1024))


def _more_memory(facts: Facts, peak: int | None) -> list[str]:
    resources = facts.section("resources")
    found = []
    per = next((key for key in ("memory_per_cpu", "memory_per_gpu") if resources.get(key)), None)
    if per is not None:
        found.append(f"Ask for more: resources.{per} was {resources[per]}; twice that is a first guess.")
    elif facts.memory or peak:
        wanted = max(2 * (facts.memory or 0), math.ceil((peak or 0) * 1.5))
        step = 1024 if wanted >= 4096 else 100
        found.append(f"Ask for more: --mem {Memory(math.ceil(wanted / step) * step).slurm}")
    else:
        found.append("Ask for more: --mem, or resources.memory in run.yaml.")
    if facts.job_id and facts.slurm and not facts.usage:
        found.append(f"What it took at most, if sampled: sacct -j {facts.job_id} -o JobID,ReqMem,MaxRSS")
    found.append("Or take less: fewer data loader workers, data read in parts.")
    return found


def timeout_rule(facts: Facts) -> Explanation | None:
    line = last_line(facts.system, _TIME)
    if facts.reason != Reason.TIMEOUT and line is None:
        return None
    words, help_ = "The run was ended by its time limit", []
    words += f" of {human_seconds(facts.time_limit)}" if facts.time_limit else ""
    words += f", after {human_seconds(facts.elapsed)}." if facts.elapsed is not None else "."
    said = tail(facts.first_log.text, 3)
    whole = None
    if (step := _progress(said)) is not None and facts.elapsed:
        name, done, total = step
        whole = facts.elapsed * total / done
        words += f" It had come to {name} {done} of {total}: all of it takes about {human_seconds(whole)}."
    capped = "the run may run for " in facts.message
    if capped:
        words = f"The run had run for as long as it may in all: {human_seconds(facts.elapsed or 0)}."
        help_.append("Let it run longer: --set max_run_duration_seconds=…")
    elif facts.time_limit:
        wanted = max(2 * facts.time_limit, math.ceil((whole or 0) * 1.1 / 300) * 300)
        help_.append(f"Ask for more time: --time {Duration(wanted).slurm}")
    if facts.slurm and not capped:
        help_.append("How much each partition allows: sinfo -o '%P %l'")
    help_.append(
        "Or save what it has when it gets TERM, and go on from there:"
        f" hpcrun submit run.yaml --set resume_from={facts.short}"
    )
    return Explanation("Timeout", words, [*([line] if line else []), *said], help_)


def _progress(lines: list[str]) -> tuple[str, int, int] | None:
    """How far it came, by its own words: ``epoch 3/10``, ``Step 40 of 200``."""
    for line in reversed(lines):
        match = _STEP.search(line)
        if match is not None and 0 < int(match.group(2)) < int(match.group(3)):
            return match.group(1).lower(), int(match.group(2)), int(match.group(3))
    return None


_NODE = {
    Reason.NODE_FAIL: ("NodeFail", "The node that the run was on failed, or was lost to Slurm."),
    Reason.BOOT_FAIL: ("NodeFail", "The node that the run was to have did not boot."),
    Reason.PREEMPTED: ("Preempted", "The run was ended to make room for a job that goes first."),
    Reason.REVOKED: ("Revoked", "The job was taken back: another cluster of the federation has it."),
    Reason.DEADLINE: ("Deadline", "The run could not be done before the deadline that was set for it."),
}


def node_rule(facts: Facts) -> Explanation | None:
    found = next((found for reason, found in _NODE.items() if facts.reason == reason), None)
    if found is None:
        return None
    cause, words = found
    if cause == "NodeFail" and not facts.slurm:
        words = "The run's process is gone without a word: it was killed, or the machine went down."
    words += f" It ran on {facts.nodes}." if facts.nodes else ""
    named = re.fullmatch(r"node (\S{1,255}) failed", facts.message)
    words += f" Of these, {facts.message}." if named else ""
    help_ = {
        "NodeFail": ["Nothing is known against the script: submit again."],
        "Preempted": [
            "Submit again, or to a partition or QOS whose jobs are not preempted.",
            "A script that saves on TERM, and goes on from resume_from, loses little.",
        ],
    }.get(cause, ["Submit again, with a later deadline or none."])
    if cause == "NodeFail" and facts.slurm and facts.nodes:
        node = named[1] if named else facts.nodes
        help_.append(f"What is the matter with the node: scontrol show node {node}")
        help_.append(f"To keep off it: --set resources.sbatch.exclude={node}")
    return Explanation(cause, words, tail(facts.system, 3), help_)


def launch_rule(facts: Facts) -> Explanation | None:
    if facts.reason != Reason.LAUNCH_FAILED:
        return None
    help_ = [system_hint(facts)]
    if facts.slurm and facts.job_id:
        help_.append(f"What Slurm knows: sacct -j {facts.job_id} -o JobID,State,ExitCode,Reason,NodeList")
    return Explanation(
        "LaunchFailed",
        f"The job did not get as far as your script: {facts.message or 'no more is known'}.",
        tail(facts.system, 5),
        help_,
    )


def lost_rule(facts: Facts) -> Explanation | None:
    if facts.reason != Reason.LOST:
        return None
    return Explanation(
        "Lost",
        "Neither the scheduler nor the job itself has a word on how it ended. The scheduler may have been set"
        " up anew, the job purged from its books, or the run's folder taken away.",
        [*([facts.message] if facts.message else []), *tail(facts.system, 3)],
        [
            *([f"Ask Slurm's books: sacct -j {facts.job_id} --starttime=now-7days"] if facts.job_id else []),
            "Its outputs, if there are any, are kept. Submit again.",
        ],
    )


_THREAD = "terminate called without an active exception"
"""What C++ says of a thread that nobody waited for."""
_TOO_EARLY = re.compile(r"recv_frag_callback_match\b[\s\S]*\bompi_mpi_init\b")
"""Open MPI's stack where a message came before MPI_Init was done: see hpcrun/launchers/mpi.py."""


def signal_rule(facts: Facts) -> Explanation | None:
    code = facts.exit_code
    if facts.reason != Reason.SIGNAL and not (code is not None and code - 128 in map(int, _CRASHES)):
        return None
    name = _signal_name(code)
    help_ = [f"What it said last: hpcrun logs {facts.short} --tail 30", system_hint(facts)]
    if facts.first is not None:
        help_[0] = f"What it said last: hpcrun logs {facts.short} --rank {facts.first} --tail 30"
    if name == "SIGKILL":
        help_.insert(0, "Most often that is for memory: try --mem with more.")
    elif name == "SIGABRT" and facts.first_log.text.rstrip().endswith(_THREAD):
        help_.insert(
            0,
            "A library's thread was at work when the program ended. With PyTorch: destroy_process_group() at"
            " the end; and with DistributedDataParallel, whose group outlives that, leave by os._exit().",
        )
    elif name == "SIGSEGV" and _TOO_EARLY.search(facts.first_log.text):
        help_.insert(
            0,
            "A message came to it while it was within MPI_Init, which Open MPI over TCP does not stand. That"
            " is by chance: submit it again, with environment_variables: {SLURM_PMIX_FENCE: ring} if"
            " something else is set; or have MPI wait a second before the first message.",
        )
    elif name in {s.name for s in _CRASHES}:
        help_.insert(
            0, "A crash of compiled code: environment_variables: {PYTHONFAULTHANDLER: '1'} says where."
        )
    elif name == "SIGTERM":
        help_.insert(0, "Someone, or a program in the job, asked it to end.")
    who = facts.whose(facts.first_log)
    return Explanation(
        "Signal",
        f"{f'The process of {who}' if who else 'The payload'} was ended by signal {name}.",
        tail(facts.first_log.text, 5),
        help_,
    )


_EARLY = re.compile(r"; rank (\d{1,9}) on (\S+) had ended before, with exit code 0\Z")


def early_rule(facts: Facts) -> Explanation | None:
    """A process that leaves without a word: the others fail when they next want something of it."""
    match = _EARLY.search(facts.message)
    if match is None:
        return None
    rank, node = match.groups()
    return Explanation(
        "EndedEarly",
        f"Rank {rank} on {node} ended with exit code 0 while others still wanted something of it, and these"
        f" failed: {facts.message[: match.start()]}.",
        tail(facts.first_log.text, 5),
        [
            f"What it said last: hpcrun logs {facts.short} --rank {rank} --tail 20",
            "All processes must take part in every collective call, and none may end before the last of them:"
            " look for data that is not shared out evenly, or an exit() in a branch for one rank.",
        ],
    )


def _signal_name(code: int | None) -> str:
    try:
        return signal.Signals((code or 0) - 128).name
    except ValueError:
        return "that is not known" if code is None else str(code - 128)


def bad_exit_rule(facts: Facts) -> Explanation:
    """The last resort: what it said last."""
    log = facts.first_log
    who = facts.whose(log)
    lines = tail(log.text)
    words = f"{'The payload' if not who else f'The payload of {who}'} ended with exit code {facts.exit_code}"
    if facts.exit_code is None:
        words = f"The run failed ({facts.reason or 'for no known reason'})"
    words += ", and this is what it printed last." if lines else ", and had printed nothing."
    rank = "" if log.rank is None else f" --rank {log.rank}"
    help_ = [f"All it printed: hpcrun logs {facts.short}{rank}"] if lines else [system_hint(facts)]
    return Explanation("BadExit", words, lines, help_)
