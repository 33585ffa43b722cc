"""Draws terminal.svg from a real session: ``python docs/pictures/make.py``, with hpcrun installed.

The commands below are typed on a terminal in a copy of the quickstart, and what it shows is drawn by rich,
without the web font that rich's own template asks for.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

HERE = Path(__file__).resolve().parent
QUICKSTART = HERE.parents[1] / "examples" / "quickstart"
COLUMNS = 92
COMMANDS = (
    "hpcrun submit run.yaml --follow -- --steps 3",
    "hpcrun submit run.yaml --wait -- --steps three",
    "hpcrun explain @-1",
    "hpcrun ls",
)
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
# A dark terminal, which is legible on a light page and on a dark one.
_COLOURS = [
    (240, 113, 120),
    (152, 195, 121),
    (229, 192, 123),
    (97, 175, 239),
    (198, 120, 221),
    (86, 182, 194),
]
THEME = TerminalTheme(
    background=(24, 27, 33),
    foreground=(214, 219, 227),
    normal=[(54, 60, 70), *_COLOURS, (214, 219, 227)],
    bright=[(125, 134, 148), *_COLOURS, (255, 255, 255)],
)


def shown_by(command: str, folder: Path) -> str:
    """What a terminal shows of a command, with its colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    # The session is nobody's: an empty home, and nothing of the caller's settings.
    env = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder.parent),
        "TERM": "xterm-256color",
        "LC_ALL": "C.UTF-8",
    }
    process = subprocess.Popen(
        ["bash", "-c", command], cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not data:
            break
        shown += data
    os.close(ours)
    process.wait(60)
    return shown.decode().replace("\r\n", "\n").replace(str(folder.parent), "~")


def session() -> str:
    """All commands with their answers, as text with ANSI colours."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "project"
        shutil.copytree(QUICKSTART, folder)
        return "".join(
            f"\x1b[1;32m$\x1b[0m \x1b[1m{command}\x1b[0m\n{shown_by(command, folder)}" for command in COMMANDS
        )


def svg(text: str) -> str:
    """A terminal that shows the text; nothing in it leads to another host."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(
            record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor"
        )
        console.print(Text.from_ansi(text.rstrip("\n")), soft_wrap=False)
    drawn = console.export_svg(title="hpcrun", theme=THEME, unique_id="t")
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r"<!--.*?-->\s*", "", drawn, flags=re.DOTALL)
    drawn = drawn.replace("Fira Code, monospace", FONTS).replace(
        "font-family: arial", f"font-family: {FONTS}"
    )
    # Or some would drop the spaces that lines begin with.
    drawn = drawn.replace("<svg ", '<svg xml:space="preserve" ', 1)
    return re.sub(r"\s*\n\s*", "\n", drawn).strip() + "\n"


if __name__ == "__main__":
    (HERE / "terminal.svg").write_text(svg(session()), encoding="utf-8")
