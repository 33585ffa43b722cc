"""Commands that bring files, and may be stopped in the middle."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from hpcrun.cli.errors import Interrupted
from hpcrun.cli.watch import on_signals


@contextmanager
def stoppable(again: str) -> Iterator[None]:
    """Make of Ctrl-C, or of being told to end, the words that nothing is lost; ``again`` goes on."""
    try:
        with on_signals(signal.default_int_handler, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            yield
    except KeyboardInterrupt:
        words = "stopped; what came is kept, and all else is where it was"
        raise Interrupted(words, f"go on: hpcrun {again}") from None
