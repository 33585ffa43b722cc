"""What a training script asks of hpcrun while it runs: pure standard library, Python 3.8 and later.

    from hpcrun import Run, tracking

    run = Run.get_context()             # metrics, tags, files: see tracking_run.py

    with tracking.on_preempt(save):     # save() is called when the run is about to be ended
        for epoch in range(first, 100):
            run.log("loss", train(epoch), step=epoch)

Outside of a run nothing is ever called, except when the script gets TERM.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from hpcrun.tracking_run import Run

__all__ = ["Preemption", "Run", "on_preempt", "restart_count"]


def restart_count() -> int:
    """How often the run was queued again: 0 in its first attempt, and outside of a run."""
    try:
        return max(0, int(os.environ.get("HPCRUN_ATTEMPT", "1")) - 1)
    except ValueError:
        return 0


class Preemption:
    """A callback that waits for the signal; see :func:`on_preempt`.

    ``called`` says whether it has come. Left as a context, or closed, the signals do again what they did
    before.
    """

    def __init__(self, callback: Callable[[], object] | None, numbers: list[int]) -> None:
        self.called = False
        self._callback = callback
        self._before: dict[int, Any] = {}
        for number in numbers:
            self._before[number] = signal.signal(number, self._heard)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        # The second signal, TERM after the warning say, finds the checkpoint written, or being written.
        if self.called:
            return
        self.called = True
        if self._callback is not None:
            self._callback()

    def close(self) -> None:
        """Undo it. Done again, it does nothing."""
        before, self._before = self._before, {}
        for number, handler in before.items():
            if signal.getsignal(number) == self._heard:
                # None: it was not set from Python, and cannot be set again.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def __enter__(self) -> Preemption:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def on_preempt(callback: Callable[[], object] | None = None) -> Preemption:
    """Have ``callback`` called once, in the main thread, when the run is about to be ended: at the signal of
    its ``requeue``, and at TERM.

    What is returned says by ``called`` whether that has happened, undoes it by ``close()``, and is a context.
    Without a callback, look at ``called`` where it suits: after each step, say. The callback may raise, or
    end the process by ``sys.exit``; if it returns, the script goes on, and is ended when its time is over.
    Ended after the signal, with whatever exit code, a run is queued again.

    Raises ValueError outside of the main thread, where Python takes no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ValueError("on_preempt must be called in the main thread, which alone can take signals")
    names = ["SIGTERM"]
    given = os.environ.get("HPCRUN_PREEMPT_SIGNAL", "")
    if given in ("USR1", "USR2"):
        names.append("SIG" + given)
    return Preemption(callback, [getattr(signal, name) for name in names])
