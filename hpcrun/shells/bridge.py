"""A program that rsync and git take for ssh. The standard library alone, and started by path: no part of
hpcrun is in reach of it, so that it starts at once.

    bridge.py over SOCKET HOST COMMAND...     by a connection that another process of hpcrun holds
    bridge.py after COUNT ARGV... HOST COMMAND...
                                              by ARGV, COUNT words that lead to ssh, without a .bashrc's noise

Standard input, output and error are the command's own, and so is the exit code; 255 is the bridge's.
"""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

# What rsync and git may put before the host; the others of these options take no value.
WITH_VALUE = ("-l", "-p", "-o", "-i", "-F")
_PIECE = 1 << 16


def main(words: Sequence[str]) -> int:
    if len(words) > 2 and words[0] == "over":
        return over(words[1], words[2:])
    if len(words) > 2 and words[0] == "after":
        count = int(words[1]) + 2
        return after(list(words[2:count]), words[count:])
    return complain("this program is for hpcrun alone")


def complain(why: str) -> int:
    sys.stderr.write(f"hpcrun: {why}\n")
    return 255


def split(words: Sequence[str]) -> tuple[list[str], str, str]:
    """Options, the host, and the command, which is one line as ssh makes it."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        at += 2 if words[at] in WITH_VALUE else 1
    host, command = words[at : at + 1], words[at + 1 :]
    if not host or not command:
        raise SystemExit(complain("there is no host, or no command for it"))
    return list(words[:at]), host[0], " ".join(command)


# -- by hpcrun's connection ----------------------------------------------------


def over(path: str, words: Sequence[str]) -> int:
    """Hand our three streams to the process that holds the connection, and wait for the exit code."""
    options, host, command = split(words)
    if options:
        return complain(f"the connection is open already: no place for {' '.join(options)}")
    with socket.socket(socket.AF_UNIX) as link:
        try:
            link.connect(path)
            asked = os.fsencode(json.dumps({"host": host, "command": command}))
            send_streams(link, struct.pack("!I", len(asked)))
            link.sendall(asked)
            answer = b""
            while len(answer) < 4 and (piece := link.recv(4 - len(answer))):
                answer += piece
        except OSError as error:
            return complain(f"the connection is gone: {error.strerror}")
    if len(answer) < 4:
        return complain("the connection is gone")
    (code,) = struct.unpack("!i", answer)
    return int(code)


def send_streams(link: socket.socket, first: bytes) -> None:
    streams = array.array("i", [0, 1, 2])
    link.sendmsg([first], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])


# -- by the ssh program, without noise ---------------------------------------


def after(argv: list[str], words: Sequence[str]) -> int:
    """Run ssh, and pass on what comes after a mark, which the command there prints first."""
    options, host, command = split(words)
    mark = f"hpcrun-{os.urandom(12).hex()}"
    argv = [*argv, *options, host, f"printf '\\n%s\\n' {mark}; {command}"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:

        def end(number: int, frame: FrameType | None) -> None:
            process.terminate()
            os._exit(128 + number)

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, end)
        assert process.stdout is not None
        source = process.stdout.fileno()
        try:
            os.set_blocking(1, True)
            write(1, skip(source, f"\n{mark}\n".encode()))
            pass_on(source, 1)
        except BrokenPipeError:
            process.terminate()
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def skip(source: int, mark: bytes) -> bytes:
    """Read up to the mark; what came with it of the rest."""
    kept = b""
    while piece := os.read(source, _PIECE):
        before, found, rest = (kept + piece).partition(mark)
        if found:
            return rest
        kept = before[-len(mark) :]
    return b""


def pass_on(source: int, sink: int) -> None:
    """Everything else, by the kernel alone where it can."""
    splice = getattr(os, "splice", None)
    try:
        while splice is not None:
            if splice(source, sink, 1 << 20) == 0:
                return
    except BrokenPipeError:
        raise
    except OSError:
        pass  # no pipe, or a file that is appended to
    while piece := os.read(source, _PIECE):
        write(sink, piece)


def write(sink: int, data: bytes) -> None:
    while data:
        data = data[os.write(sink, data) :]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
