"""What is to be said of a run that is no job: a part of another's program, or a program of somebody's own."""

from __future__ import annotations

from dataclasses import dataclass

from hpcrun.explain.facts import Explanation
from hpcrun.states import Reason, RunState


@dataclass(frozen=True)
class JoblessFacts:
    """What is known of it: ``parent``, of a child; ``program``, of an interactive run, such as ``process 12
    on node1``, and its ``life``: ``alive``, ``gone`` or ``unknown``."""

    run_id: str
    state: RunState
    reason: str
    message: str
    parent: str = ""
    program: str = ""
    life: str = "unknown"


def explain_jobless(facts: JoblessFacts) -> Explanation:
    """Why it stands as it does."""
    return _child(facts) if facts.parent else _interactive(facts)


def _child(facts: JoblessFacts) -> Explanation:
    parent = facts.parent.rpartition("_")[2]
    of, hints = f"a part of the program of {facts.parent}", [f"What it printed: hpcrun logs {parent}"]
    if facts.state is RunState.FAILED:
        said = f": {facts.message}" if facts.message else ""
        hints.insert(0, f"How that one ended: hpcrun explain {parent}")
        return Explanation("ChildFailed", f"It is {of}, and failed{said}.", [], hints)
    if facts.state is RunState.CANCELED:
        said = f": {facts.message}" if facts.message else ", by its own word"
        return Explanation("Canceled", f"It is {of}, and was given up{said}.", [], hints)
    if facts.state is RunState.COMPLETED:
        return Explanation("Completed", f"It is {of}, and ended well.", [], hints)
    words = f"It is {of}, which has not ended it; it ends with that one at the latest."
    return Explanation(facts.state.value, words, [], [f"How that one stands: hpcrun show {parent}"])


def _interactive(facts: JoblessFacts) -> Explanation:
    short = facts.run_id.rpartition("_")[2]
    logged = f"What it logged: hpcrun metrics {short}"
    if facts.reason == Reason.LOST.value:
        hint = "A program says how it ends by run.complete() or run.fail(), or by a with block"
        words = f"It is no job but a program, {facts.program}: {facts.message}."
        return Explanation("Lost", words, [], [logged, hint])
    if facts.state.final:
        how = {RunState.COMPLETED: "ended well", RunState.FAILED: "failed", RunState.CANCELED: "was given up"}
        said = f": {facts.message}" if facts.message else ""
        cause = {RunState.FAILED: "ProgramFailed"}.get(facts.state, facts.state.value)
        words = f"It is no job but a program, {facts.program}, and {how[facts.state]} by its own word{said}."
        return Explanation(cause, words, [], [logged])
    if facts.life == "alive":
        return Explanation(
            facts.state.value, f"It is no job but a program, {facts.program}, which goes on.", [], [logged]
        )
    words = f"It is no job but a program, {facts.program}. Whether that still runs cannot be told from here."
    return Explanation(
        facts.state.value, words, [], [logged, f"If it does not, give the run up: hpcrun cancel {short}"]
    )
