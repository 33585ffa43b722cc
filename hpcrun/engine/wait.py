"""Waiting for runs: politely to the scheduler, quickly for the user.

What the job itself writes is looked at often, which costs a stat. The scheduler is asked 15 seconds apart,
growing to 60, or, as long as it does not answer, twice as long each time, up to the same 60; and at once
when the job says that it is at its end, and when its time limit is over. A fifth more or less is left to
chance, so that many who wait do not all ask together.

What the job of a run on another machine writes comes over one channel (:mod:`hpcrun.engine.follow`).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar

from hpcrun.engine.before import before_of, stands, step_names
from hpcrun.engine.clocks import seconds_since
from hpcrun.engine.follow import Following
from hpcrun.engine.notices import tell
from hpcrun.engine.pace import ASK, Pace
from hpcrun.engine.refresh import refresh
from hpcrun.engine.steps import follow_steps
from hpcrun.engine.sweep_wait import wait_for_sweep
from hpcrun.engine.sync import OnPlan, sync
from hpcrun.errors import HpcrunError, LoginRequired, NotFoundError, WaitTimeoutError
from hpcrun.history.record import PIPELINE, SWEEP, RunRecord
from hpcrun.history.store import History
from hpcrun.states import Reason, RunState
from hpcrun.targets import Target, Targets

_LOOK = 0.05
_LOOK_MOST = 1.0


def wait(
    history: History,
    targets: Targets,
    run_id: str,
    *,
    timeout: float | None = None,
    logs: bool = False,
    on_look: Callable[[RunRecord], None] | None = None,
    on_trouble: Callable[[dict[str, str]], None] | None = None,
    on_plan: OnPlan | None = None,
) -> RunRecord:
    """The record of the run, once it has ended and its outputs and logs are there.

    ``on_look`` is called each time the run was looked at (to print new log lines; those of a run on another
    machine come here if ``logs`` are wanted), ``on_trouble`` each time the scheduler did not (fully) answer,
    with what was the matter by site, ``on_plan`` before files are brought home. Raises WaitTimeoutError after
    ``timeout`` seconds, the run goes on; LoginRequired where a site asks for something to be typed.
    """
    if history.get(run_id).type == PIPELINE:
        return _wait_for_steps(
            history,
            targets,
            run_id,
            timeout,
            lambda step, left: wait(
                history,
                targets,
                step,
                timeout=left,
                logs=logs,
                on_look=on_look,
                on_trouble=on_trouble,
                on_plan=on_plan,
            ),
        )
    if history.get(run_id).type == SWEEP:
        return wait_for_sweep(
            history,
            targets,
            run_id,
            timeout=timeout,
            on_look=on_look or (lambda record: None),
            on_trouble=on_trouble or (lambda trouble: None),
            on_plan=on_plan,
        )
    with ExitStack() as stack:
        waiting = _Waiting(history, targets, run_id, timeout, on_look, on_trouble, on_plan)
        far = following(history, targets, history.get(run_id), logs=logs)
        waiting.far = None if far is None else stack.enter_context(far)
        record = waiting.until_the_end()
    tell(history, [run_id])  # what does not work is tried again, and told, by a tick
    return record


def _wait_for_steps(
    history: History,
    targets: Targets,
    run_id: str,
    timeout: float | None,
    wait_for: Callable[[str, float | None], RunRecord],
) -> RunRecord:
    """The record of a pipeline, once all of its steps have ended: they are waited for in their order."""
    began = time.monotonic()
    refresh(history, targets, [run_id])
    for step in step_names(history.get(run_id)):
        try:
            wait_for(step, None if timeout is None else max(0.0, timeout - (time.monotonic() - began)))
        except NotFoundError:  # the pipeline was canceled before it was made
            break
    record = follow_steps(history, run_id)
    tell(history, [run_id])
    return record


def following(history: History, targets: Targets, record: RunRecord, *, logs: bool) -> Following | None:
    """What follows a run that has not ended, on another machine; None where there is nothing to follow."""
    target = None if record.state.final else far_target(targets, record)
    if target is None or target.remote is None:
        return None
    home = history.paths.run(record.id)
    return Following(target.remote, target.remote.host, record.run_dir, home, logs=logs)


def far_target(targets: Targets, record: RunRecord) -> Target | None:
    """The site of a run whose folder is on another machine; None for others, and where it is not known."""
    if record.host is None or not record.run_dir.startswith("/"):
        return None
    try:
        target = targets.get(record.target.partition(":")[0])
    except HpcrunError:  # whoever asks the scheduler says so
        return None
    return None if target.remote is None else target


def bring_home(
    history: History,
    targets: Targets,
    record: RunRecord,
    on_trouble: Callable[[dict[str, str]], None],
    on_plan: OnPlan | None = None,
) -> RunRecord:
    """Have here what a run on another machine has left there, its job having ended; the record then.

    One that then is not final is tried again :data:`ASK` seconds later. Raises LoginRequired.
    """
    if record.outcome is None or record.state.final:
        return record
    trouble = sync(history, targets, [record.id], on_plan).trouble
    for error in trouble.values():
        if isinstance(error, LoginRequired):
            raise error
    if trouble:
        on_trouble({name: error.message for name, error in trouble.items()})
    return history.get(record.id)


_T = TypeVar("_T")


def aside(action: Callable[[], _T]) -> Future[_T]:
    """Do something in a thread that keeps nobody from leaving."""
    answer: Future[_T] = Future()

    def work() -> None:
        try:
            answer.set_result(action())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, name="hpcrun-aside", daemon=True).start()
    return answer


class _Waiting:
    def __init__(
        self,
        history: History,
        targets: Targets,
        run_id: str,
        timeout: float | None,
        on_look: Callable[[RunRecord], None] | None,
        on_trouble: Callable[[dict[str, str]], None] | None,
        on_plan: OnPlan | None,
    ) -> None:
        self._on_plan = on_plan
        self._history, self._targets, self._run_id, self._timeout = history, targets, run_id, timeout
        self._on_look = on_look or (lambda record: None)
        self._on_trouble = on_trouble or (lambda trouble: None)
        self._began = time.monotonic()
        self._seen: tuple[object, ...] | None = None
        self._seen_before: list[object] = []
        self._shown, self._has_shown = history.get(run_id), False
        self._next_fetch = 0.0
        self._look, self._pace = _LOOK, Pace()
        self.far: Following | None = None

    def until_the_end(self) -> RunRecord:
        while True:
            record = self._looked_at()
            if record.host is not None and (record.state.final or record.state is RunState.FINALIZING):
                self._rest_of_the_logs(record)
                record = self._at_home(record)
            self._show(record)
            if record.state.final:
                return record
            now = self._now()
            if self._timeout is not None and now >= self._timeout:
                raise WaitTimeoutError(
                    f"{self._run_id} is still {record.state} after {self._timeout:.0f} s",
                    hint=f"It goes on. Wait again: hpcrun wait {self._run_id}",
                )
            self._pause(self._look if self._timeout is None else min(self._look, self._timeout - now))
            self._look = min(self._look * 1.2, _LOOK_MOST)

    def _looked_at(self) -> RunRecord:
        """The run as it is now, the scheduler having been asked if it is time to."""
        now = self._now()
        record = self._history.get(self._run_id)
        stamp = _stamp(self._history.seen(record).folder)
        before = self._before(record)
        self._mind_the_channel(record)
        if now >= self._pace.next_ask or (before and before != self._seen_before):
            trouble = self._ask()
            if trouble:
                self._on_trouble(trouble)
            now = self._now()  # one that does not answer is given its time
            self._pace = self._pace.asked(now, trouble=bool(trouble), chance=random.random())
            self._seen_before = before
        elif stamp != self._seen:
            # What the local scheduler has to say is in a file as well, and costs no command.
            refresh(self._history, self._targets, [self._run_id], ask=record.scheduler == "local")
            self._look = _LOOK
        record = self._history.get(self._run_id)
        self._pace = self._pace.seen(now, at_end=_at_end(record), left=_left(record))
        self._seen = stamp
        return record

    def _before(self, record: RunRecord) -> list[object]:
        """Changes with each run that it is held back for, whose end no scheduler tells (see
        :func:`hpcrun.engine.waits.too_early`); empty where there is none."""
        if record.state is not RunState.NOT_STARTED or record.reason != Reason.DEPENDENCY:
            return []
        found: list[object] = []
        for each in before_of(record):
            with suppress(HpcrunError):
                other = self._history.get(each.run)
                found += [stands(other), _stamp(self._history.seen(other).folder)]
        return found

    def _ask(self) -> dict[str, str]:
        """Ask the scheduler. However long it takes to answer, what is printed meanwhile is shown."""
        if self.far is None or not self._has_shown:
            return refresh(self._history, self._targets, [self._run_id]).trouble
        answer = aside(lambda: refresh(self._history, self._targets, [self._run_id]).trouble)
        while not answer.done():
            self.far.wait(_LOOK)
            self._show(self._shown)
        return answer.result()

    def _mind_the_channel(self, record: RunRecord) -> None:
        if self.far is None:
            return
        if self.far.error is not None:
            raise self.far.error
        words = self.far.trouble()
        if words:
            self._on_trouble({record.target.partition(":")[0]: words})

    def _rest_of_the_logs(self, record: RunRecord) -> None:
        """The last that the run's processes have printed, before anybody is told that it has ended."""
        far, self.far = self.far, None
        if far is None or not far.logs:
            return
        before = self._shown
        if not far.finish(lambda: self._on_look(before)):
            self._on_trouble({record.target.partition(":")[0]: "the last of what it printed did not come"})

    def _at_home(self, record: RunRecord) -> RunRecord:
        if self._now() < self._next_fetch:
            return record
        record = bring_home(self._history, self._targets, record, self._on_trouble, self._on_plan)
        self._next_fetch = self._now() + ASK
        return record

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _show(self, record: RunRecord) -> None:
        self._shown, self._has_shown = record, True
        if self.far is None:
            self._on_look(record)
        else:
            self.far.look(lambda: self._on_look(record))

    def _pause(self, seconds: float) -> None:
        if self.far is None:
            time.sleep(max(0.0, seconds))
        else:
            self.far.wait(max(0.0, seconds))


def _at_end(record: RunRecord) -> bool:
    """Whether the job says that it has ended, or the scheduler does and the job's own word is still due."""
    if "unseen_since" in record.submission:
        return True
    return any(attempt.get("ended") and "requeued" not in attempt for attempt in record.attempts[-1:])


def _left(record: RunRecord) -> float | None:
    """Seconds until the job's time limit is over; None where that is not known."""
    expected = record.submission.get("expected_end")
    return None if expected is None else -seconds_since(expected)


def _stamp(run_dir: Path) -> tuple[object, ...]:
    """Changes whenever the job, or the local scheduler, has something new to say."""
    stamps: list[object] = []
    for name in ("status.json", "local.json"):
        try:
            info = (run_dir / name).stat()
            stamps.append((info.st_mtime_ns, info.st_ino))
        except OSError:
            stamps.append(None)
    return tuple(stamps)
