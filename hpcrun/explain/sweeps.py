"""What is to be said of a sweep."""

from __future__ import annotations

from dataclasses import dataclass

from hpcrun.explain.facts import Explanation
from hpcrun.states import RunState


@dataclass(frozen=True)
class SweepFacts:
    """What is known of a sweep: ``stopped_by`` whom (user, duration, failures); a trial that ``failed``."""

    run_id: str
    state: RunState
    reason: str
    message: str
    total: int
    metric: str
    stopped_by: str = ""
    failed: str = ""


def _short(run_id: str) -> str:
    return run_id.rpartition("_")[2]


def explain_sweep(facts: SweepFacts) -> Explanation:
    """Why a sweep stands as it does."""
    short = _short(facts.run_id)
    said = [facts.message] if facts.message else []
    best = f"The best of its trials: hpcrun sweep best {short}"
    why = [f"Why one of them failed: hpcrun explain {_short(facts.failed)}"] if facts.failed else []
    again = f"Once that is mended: hpcrun sweep retry {short}, or start it again"
    if facts.state is RunState.FAILED:
        words = "The sweep gave up: " if facts.stopped_by else "The sweep failed: "
        return Explanation("TrialsFailed", f"{words}{facts.message}.", [], [*why, again])
    if facts.state is RunState.CANCELED:
        words = "The sweep's time was over." if facts.stopped_by == "duration" else "The sweep was stopped."
        longer = "Give it longer: sweep.max_duration_minutes; go on from it: sweep.resume_from"
        return Explanation(facts.reason or "Canceled", words, said, [best, longer])
    if facts.state is RunState.COMPLETED:
        return Explanation("Completed", f"All {facts.total} trials have ended.", said, [best, *why])
    return Explanation(
        facts.state.value,
        f"The sweep goes on, of {facts.total} trials.",
        said,
        [f"How it stands: hpcrun sweep status {short}"],
    )
