"""Work that may hang where nothing can interrupt it, for so long and no longer."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
Q = TypeVar("Q")
A = TypeVar("A")


class OutOfPatience(Exception):
    """The time was over."""


class Patience(Generic[T, Q, A]):
    """Does ``work`` in a thread of its own. What it asks is answered in the thread that waits, where Ctrl-C
    arrives; the time that an answer takes does not count."""

    def __init__(self, work: Callable[[Callable[[Q], A]], T], answer: Callable[[Q], A]) -> None:
        self._work, self._answer = work, answer
        self._told: queue.Queue[tuple[str, object]] = queue.Queue()
        self._answers: queue.Queue[tuple[bool, object]] = queue.Queue()

    def wait(self, seconds: float) -> T:
        """What the work came to. Raises what it raised, or OutOfPatience; it may then still be going on."""
        threading.Thread(target=self._go, daemon=True).start()
        deadline = time.monotonic() + seconds
        try:
            while True:
                try:
                    kind, told = self._told.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    raise OutOfPatience from None
                if kind == "done":
                    return told  # type: ignore[return-value]
                if kind == "failed":
                    assert isinstance(told, BaseException)
                    raise told
                began = time.monotonic()
                self._answers.put((True, self._answer(told)))  # type: ignore[arg-type]
                deadline += time.monotonic() - began
        finally:
            self._answers.put((False, None))  # nobody waits any more, so nobody will answer

    def _ask(self, question: Q) -> A:
        self._told.put(("asked", question))
        answered, answer = self._answers.get()
        if not answered:
            raise OutOfPatience("nobody answers any more")
        return answer  # type: ignore[return-value]

    def _go(self) -> None:
        try:
            self._told.put(("done", self._work(self._ask)))
        except BaseException as error:
            self._told.put(("failed", error))
