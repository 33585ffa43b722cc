"""What is to be said of a trial that shared its job with others, where that job is to blame."""

from __future__ import annotations

from hpcrun.explain.facts import Explanation, Facts
from hpcrun.states import Reason, RunState

_WORDS = {
    Reason.NOT_BEGUN: "Its turn did not come",
    Reason.CANCELED: "The job that it shared with other trials was canceled",
    Reason.LAUNCH_FAILED: "The job that it was to share with other trials could run none of them",
}

_WITH_OTHERS = "It was ended with others"


def pack_rule(facts: Facts) -> Explanation | None:
    if not facts.pack or facts.state is not RunState.FAILED:
        return None
    if not facts.message.startswith("the job of its pack"):
        return None
    words = next((text for reason, text in _WORDS.items() if facts.reason == reason), _WITH_OTHERS)
    help_ = [f"What the job said: {facts.pack}/pack.txt, and user_logs/ beside it"]
    if facts.reason == Reason.NOT_BEGUN:
        help_.append("While its sweep goes on, it is tried again by itself, if its job got anywhere at all.")
    if "mpi4py" in facts.message:
        help_.append("Add mpi4py, and an MPI, to the environment; or leave pack out of the sweep.")
    help_.append("All failed trials of the sweep again: hpcrun sweep retry SWEEP")
    return Explanation(str(facts.reason), f"{words}: {facts.message}.", [], help_)
