"""The program: ``hpcrun``, and ``python -m hpcrun`` whatever else on PATH is called hpcrun."""

from __future__ import annotations

import os
import signal
from types import FrameType


def entry() -> None:
    """Run the command line, and exit.

    Ctrl-C ends a command where it stands, unless the command itself minds it: whatever hpcrun writes is whole
    or not there, and an exception may fall into an import or a destructor, where Python loses it or makes
    many words of it.
    """
    try:
        # Not where it is ignored, as in nohup.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _leave)
    except KeyboardInterrupt:  # just before
        _leave(signal.SIGINT, None)
    from hpcrun.cli.main import entry as command_line

    try:
        command_line()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is said and done


def _leave(number: int, frame: FrameType | None) -> None:
    try:
        os.write(2, b"\nhpcrun: interrupted\n" if os.isatty(2) else b"hpcrun: interrupted\n")
    except OSError:
        pass
    os._exit(130)


if __name__ == "__main__":
    entry()
