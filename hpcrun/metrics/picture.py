"""Pictures in files, by matplotlib: never on a screen, and without pyplot's state."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

from hpcrun.errors import HpcrunError, UsageError

SUFFIXES = (".png", ".svg", ".pdf")
"""What a picture's file may be called; the name says what it is."""


def check_picture(path: Path, *, example: str = "loss.png") -> None:
    """Before anything is read: whether a picture can be drawn there. Raises UsageError, HpcrunError.

    ``example`` is a name that would do.
    """
    import importlib.util

    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint=f"--plot {path / example}")
    if path.suffix.lower() not in SUFFIXES:
        words = "a picture is a PNG, SVG or PDF file"
        raise UsageError(f"{words}, and {path} is called otherwise", hint=f"--plot {example}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {path.absolute().parent}")
    if importlib.util.find_spec("matplotlib") is None:
        raise HpcrunError(
            "pictures are drawn by matplotlib, which is not installed",
            hint="pip install 'hpcrun-toolkit[plot]'; or leave --plot out, and take the table.",
        )


def blank(width: float, height: float) -> Any:
    """An empty figure, in inches, that lays itself out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Any, path: Path) -> None:
    """Write a figure, whole or not at all. Raises HpcrunError where the file cannot be written."""
    drawn = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name in letters that the font lacks is drawn as boxes
        figure.savefig(drawn, dpi=120, format=path.suffix[1:].lower())
    try:
        path.write_bytes(drawn.getvalue())
    except OSError as exc:
        raise HpcrunError(f"{path} cannot be written: {exc.strerror}") from exc


def plain(text: str, most: int = 200) -> str:
    """Text for a picture: one line, of at most ``most`` characters. Of a longer one the end is kept: names
    that begin alike end differently."""
    shown = "".join(
        c if c.isprintable() else " " if c in "\n\t\r" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    return shown if len(shown) <= most else f"…{shown[len(shown) - most + 1 :]}"
