"""What a sweep does next, as a pure function of what was planned and of what its trials are by now.

Trials are planned in batches, which are written down before they are submitted: whoever finds a batch of
which trials are missing submits these, with the same numbers, and so with the same keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hpcrun.states import Reason, RunState


@dataclass(frozen=True)
class Batch:
    """The trials ``first`` to ``first + count - 1``; no more than ``limit`` of them run at once, whatever is
    queued (None: as many as there are)."""

    first: int
    count: int
    limit: int | None = None

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + self.count)

    @property
    def entry(self) -> list[int | None]:
        """As JSON has it."""
        return [self.first, self.count, self.limit]

    @classmethod
    def read(cls, entry: Sequence[Any]) -> Batch:
        """What JSON made of one."""
        first, count, limit = entry
        return cls(int(first), int(count), None if limit is None else int(limit))


class Outcome(NamedTuple):
    """How a trial stands: ``early`` if the sweep's policy ended it."""

    state: RunState
    reason: str = ""
    early: bool = False


def planned(batches: Sequence[Batch]) -> int:
    """How many trials the batches have."""
    return sum(batch.count for batch in batches)


def running_at_most(batches: Sequence[Batch], ended: Collection[int]) -> int:
    """How many trials may be running at once, of those that were planned and have not ended."""
    total = 0
    for batch in batches:
        left = batch.count - sum(number in ended for number in batch.numbers)
        total += left if batch.limit is None else min(left, batch.limit)
    return total


def more(
    total: int, batches: Sequence[Batch], ended: Collection[int], most: int | None, *, queued: bool
) -> list[Batch]:
    """The batches to be planned now, of ``total`` trials of which ``most`` may run at once.

    ``queued``: where arrays keep to the limit, all that is left may wait in the queue. Else, and where what
    is tried next depends on what has ended, trials are submitted as others end.
    """
    first = planned(batches)
    left = total - first
    free = left if most is None else most - running_at_most(batches, ended)
    if left <= 0 or free <= 0:
        return []
    if queued and free < left:
        return [Batch(first, left, free)]
    return [Batch(first, min(left, free))]


def fills(new: Sequence[Batch], left: int, size: int, most: int | None) -> bool:
    """Whether these are worth a job that runs ``size`` at a time, where ``left`` are to come, and ``most``
    may run at once: fewer than fill it wait for others to end."""
    count = sum(batch.count for batch in new)
    return count >= min(left, size, left if most is None else most)


def joined(batches: Sequence[Batch], new: Sequence[Batch]) -> list[Batch]:
    """All of them; those without a limit that follow each other are one."""
    found = list(batches)
    for batch in new:
        if found and found[-1].limit is None and batch.limit is None:
            found[-1] = Batch(found[-1].first, found[-1].count + batch.count)
        else:
            found.append(batch)
    return found


def pieces(count: int, room: int | None = None) -> Generator[int, bool, None]:
    """How many of ``count`` to submit next, told whether the last so many were taken; 0 once no more are to
    be tried. Whatever the limit is, it is filled to the last, in a few tries.

    ``room``: so many were taken the last time; None where nothing is known of a limit.
    """
    left, most = count, count + 1  # that many are certainly not taken
    size = count if room is None else max(1, min(count, room))
    grown = 0
    while size:
        taken = yield size
        if taken:
            left, most = left - size, most - size
            grown = max(1, 2 * grown)
            size = min(left, most // 2 if most <= left else grown)
        else:
            most = size
            size = size // 2
    yield 0


def hopeless(outcomes: Sequence[Outcome], most: int | None) -> str:
    """The words for a sweep that is not worth going on with; empty for others.

    So is one of whose trials the first ``most`` to end have all failed (None: there is no such limit).
    """
    ended = [outcome for outcome in outcomes if outcome.state.final]
    if most is None or len(ended) < most or any(each.state is not RunState.FAILED for each in ended):
        return ""
    reasons = Counter(each.reason for each in ended)
    reason, count = reasons.most_common(1)[0]
    why = f", {'all' if count == len(ended) else count} of them ({reason})" if reason else ""
    return f"all of the first {len(ended)} trials to end have failed{why}"


def end_of(outcomes: Sequence[Outcome], stop: tuple[str, str]) -> tuple[RunState, Reason, str]:
    """State, reason and message of a sweep whose trials have all ended, with nothing left to submit.

    ``stop`` is who stopped it (``user``, ``duration``, ``failures``, ``refused``, or empty), in what words.
    """
    who, words = stop
    done = sum(each.state is RunState.COMPLETED or each.early for each in outcomes)
    failed = [each for each in outcomes if each.state is RunState.FAILED]
    if who == "user":
        return RunState.CANCELED, Reason.CANCELED, words
    if who == "refused":
        return RunState.FAILED, Reason.REJECTED, words
    if who == "failures" or (failed and not done and len(failed) == len(outcomes)):
        reason = Counter(each.reason for each in failed).most_common(1)[0][0] if failed else ""
        words = words or f"all of its {len(failed)} trials failed"
        return RunState.FAILED, Reason(reason) if reason in set(Reason) else Reason.NONE, words
    if not done:
        return RunState.CANCELED, Reason.TIMEOUT if who == "duration" else Reason.CANCELED, words
    if failed:
        words = f"{words}; " if words else ""
        words += f"{len(failed)} of its {len(outcomes)} trials failed"
    return RunState.COMPLETED, Reason.NONE, words
