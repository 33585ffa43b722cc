"""Metrics as TensorBoard's event files, by TensorBoard's own writer, the one that PyTorch uses too.

A folder a run; the ranks but the first that told anything have folders below it. What was written stands in
``.hpcrun.json`` beside the files: the next time only what is new is written, into a file of its own, and a
file that is not named there was left by a writer that was killed, and goes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpcrun.engine.export_points import Told, picture_of, told_folder
from hpcrun.errors import HpcrunError
from hpcrun.history.files import locked
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.metrics.reading import Point

_NAME = "events.out.tfevents."


def check_tensorboard() -> None:
    """Raises HpcrunError where there is no writer."""
    import importlib.util

    if importlib.util.find_spec("tensorboard") is None:
        raise HpcrunError(
            "event files are written by tensorboard, which is not installed",
            hint="pip install 'hpcrun-toolkit[tensorboard]'",
        )


def export_events(history: History, record: RunRecord, folder: Path) -> int:
    """Write into ``folder`` what the run has told since the last time; how many points that were. Raises
    HpcrunError."""
    check_tensorboard()
    told_folder(folder.absolute())
    with locked(folder / ".hpcrun.lock"):
        state = folder / ".hpcrun.json"
        told = Told.load(state)
        metrics = history.seen(record).metrics
        if told.is_of_another(metrics):
            told = Told()
        _remove_unknown(folder, set(told.files))
        first = not told.offsets
        count, main = 0, None
        for rank, points in told.unread(metrics):
            main = min(int(known) for known in (*told.offsets, str(rank)))
            below = folder if rank == main else told_folder(folder / f"rank_{rank:03d}")
            with _Writer(below) as writer:
                if first and rank == main:
                    writer.hyperparameters(record)
                for point in points:
                    writer.point(point, told, picture_of(history, record, point))
            told.files += [str(path.relative_to(folder)) for path in writer.files]
            count += len(points)
        if count:
            told.save(state)
        return count


def _remove_unknown(folder: Path, known: set[str]) -> None:
    for path in [*folder.glob(f"{_NAME}*"), *folder.glob(f"rank_*/{_NAME}*")]:
        if str(path.relative_to(folder)) not in known:
            path.unlink(missing_ok=True)


class _Writer:
    """One event file; ``files`` are those that came to be."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._folder, self._before = folder, {*folder.glob(f"{_NAME}*")}
        self._writer = EventFileWriter(str(folder), max_queue_size=1000, flush_secs=3600)
        self.files: list[Path] = []

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *exc: object) -> None:
        self._writer.close()
        self.files = sorted({*self._folder.glob(f"{_NAME}*")} - self._before)
        for path in self.files:
            path.chmod(0o600)

    def hyperparameters(self, record: RunRecord) -> None:
        """What the run was told by name, for the tab HPARAMS."""
        if record.parameters:
            from tensorboard.plugins.hparams.summary_v2 import hparams_pb

            # It takes text of any length, but no subclass of what it takes.
            self._add(0.0, 0, hparams_pb({_text(key): value for key, value in record.parameters.items()}))

    def point(self, point: Point, told: Told, picture: bytes | None) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        found = False
        for name, step, time, value in told.numbers(point):
            found = True
            scalar = Summary.Value(tag=_text(name), simple_value=_narrow(value))
            self._add(time, step, Summary(value=[scalar]))
        if found:
            return
        (place,) = told.numbers(point._replace(value=0, kind="scalar"))
        if picture is not None:
            width, height = _size(picture)
            image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=picture)
            self._add(
                place.time, place.step, Summary(value=[Summary.Value(tag=_text(point.name), image=image)])
            )
        elif point.value is not None:
            from tensorboard.plugins.text.summary_v2 import text_pb

            words = "\n".join(_markdown(point))
            self._add(place.time, place.step, text_pb(_text(point.name), _text(words)))

    def _add(self, time: float, step: int, summary: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=time, step=step, summary=summary))


def _narrow(value: float) -> float:
    """As an event file has it, in 32 bits: what is too large for them is infinite."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _size(picture: bytes) -> tuple[int, int]:
    """Width and height of a PNG; of another picture 0, and TensorBoard shows it all the same."""
    if picture[:8] == b"\x89PNG\r\n\x1a\n" and len(picture) >= 24:
        width, height = struct.unpack(">II", picture[16:24])
        if max(width, height) < 2**31:
            return width, height
    return 0, 0


def _markdown(point: Point) -> Iterator[str]:
    """A document as TensorBoard's text tab shows it: a table where it is one."""
    import json

    from hpcrun.metrics.documents import matrix_of

    matrix = matrix_of(point.value)
    if matrix is not None:
        labels, rows = matrix
        yield from _table(
            ["true \\ predicted", *labels], [[a, *row] for a, row in zip(labels, rows, strict=True)]
        )
    elif point.kind == "row" and isinstance(point.value, dict):
        yield from _table([*point.value], [[*point.value.values()]])
    elif isinstance(point.value, str):
        yield point.value
    else:
        yield from (f"    {line}" for line in json.dumps(point.value, indent=2).splitlines())


def _table(heads: list[Any], rows: list[list[Any]]) -> Iterator[str]:
    for index, row in enumerate([heads, *rows]):
        yield "| " + " | ".join(str(one).replace("|", "\\|").replace("\n", " ") for one in row) + " |"
        if index == 0:
            yield "|" + "---|" * len(heads)
