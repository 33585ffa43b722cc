"""Where a program's metrics and files go: the run's folder, or one beside the program outside of a run.

Pure standard library, Python 3.8 and later.
"""

from __future__ import annotations

import io
import os
import stat
import time
from pathlib import Path

from hpcrun.tracking_lines import Lines, make_folder, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CHILDREN = "children"
"""Below ``metrics`` and ``outputs``: a folder a child, by its id."""

_RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID")


def rank() -> int:
    """Which process of the run this is; 0 where nobody says."""
    for name in _RANKS:
        value = os.environ.get(name, "")
        if value.isascii() and value.isdigit():
            return int(value)
    return 0


def attempt() -> int:
    """Which start of the run this is, from 1."""
    value = os.environ.get("HPCRUN_ATTEMPT", "1")
    return max(1, int(value)) if value.isascii() and value.isdigit() else 1


def child_id(parent: str, key: str) -> str:
    """The id of a child: the same for the same parent and key, so that a run that is queued again goes on
    with the children that it has."""
    import hashlib

    digest = hashlib.sha256(f"{parent}/{key}".encode("utf-8", "surrogatepass")).digest()
    return parent[:-8] + _tail(digest[:5])


def _tail(data: bytes) -> str:
    """Five bytes, as they end an id."""
    import base64

    return base64.b32encode(data).decode("ascii").lower()


class Place:
    """The folders ``metrics`` and ``outputs``, and the file that tells of tags and children."""

    def __init__(
        self, metrics: Path, outputs: Path, number: int, ready: Callable[[], None] = lambda: None
    ) -> None:
        self.metrics = metrics
        self.outputs = outputs
        self.rank = number
        self.ready = ready
        self.lines = Lines(metrics / f"rank_{number:03d}.jsonl", ready)
        self.told: Lines = Lines(metrics / f"told_{number:03d}.jsonl", ready)

    def child(self, run_id: str) -> Place:
        """That of a child; it is the family's first that tells of it."""
        below = (self.metrics / CHILDREN, self.outputs / CHILDREN)
        if self.metrics.parent.name == CHILDREN:  # a child's child lies beside it
            below = (self.metrics.parent, self.outputs.parent)
        place = Place(below[0] / run_id, below[1] / run_id, self.rank, self.ready)
        place.told = self.told
        return place


def of_run(folder: str, number: int) -> Place:
    """The place of a run, by its folder."""
    outputs = os.environ.get("HPCRUN_OUTPUT_DIR") or f"{folder}/code/outputs"
    return Place(Path(folder) / "metrics", Path(outputs), number)


def offline_folder() -> tuple[str, Path]:
    """An id for a program outside of any run, and its folder: in the workspace that it is in, where no
    snapshot takes it along, else in the working directory."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    name = f"{stamp}_{_tail(os.urandom(5))}"
    named = os.environ.get("HPCRUN_OFFLINE_DIR")
    here = Path.cwd()
    workspaces = [folder / ".hpcrun" for folder in (here, *here.parents) if (folder / ".hpcrun").is_dir()]
    if named:
        top = here / named
    elif workspaces:
        top = workspaces[0] / "offline"
    else:
        top = here / "hpcrun_offline"
    return f"offline_{name}", top / name


def offline(folder: Path, number: int) -> Place:
    """The place of such a program; the folder is made, and told of, when something goes there."""

    def ready() -> None:
        if not folder.is_dir():
            new = not folder.parent.exists()
            make_folder(folder)
            if new:
                (folder.parent / ".gitignore").write_text("*\n", encoding="ascii")
            tell(f"this is no run of hpcrun: what the program logs goes to {folder}")

    return Place(folder / "metrics", folder / "outputs", number, ready)


def inside(top: Path, name: Any) -> Path:
    """Where the file ``name`` lies below ``top``. Raises TypeError, ValueError for one that would not."""
    if not isinstance(name, (str, os.PathLike)):
        raise TypeError(f"a file's name must be text, and is {name!r:.80}")
    text = os.fspath(name)
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if text.startswith("/") or ".." in parts or "\0" in text or not parts:
        raise ValueError(f"{text!r:.200} is no name in the run's outputs: one below them, without '..'")
    if parts[0] == "outputs" and len(parts) > 1:  # as Azure ML's scripts say it
        del parts[0]
    place = top.joinpath(*parts)
    real, wanted = os.path.realpath(top), os.path.realpath(place.parent)
    if wanted != real and not wanted.startswith(real + os.sep):
        raise ValueError(f"{text!r:.200} leads out of the run's outputs, by a link: to {wanted}")
    return place


def put(source: Any, place: Path) -> None:
    """Copy a file, by its path or open, to ``place``: whole or not at all, and private. Raises OSError."""
    if not hasattr(source, "read"):
        if os.path.isdir(source):  # noqa: PTH112 (whatever takes a path)
            raise IsADirectoryError(f"{source} is a folder: use upload_folder")
        try:
            if place.samefile(source):
                return
        except FileNotFoundError:
            pass
        with Path(source).open("rb") as stream:
            put(stream, place)
        return
    make_folder(place.parent)
    temporary = place.parent / f".hpcrun-{_tail(os.urandom(5))}.part"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(str(temporary), flags, 0o600), "wb") as target:
            for piece in iter(lambda: source.read(1 << 20), None):
                if not piece:
                    break
                target.write(piece.encode("utf-8") if isinstance(piece, str) else piece)
        temporary.replace(place)
    except BaseException:
        if temporary.exists():
            temporary.unlink()
        raise


def put_folder(source: Any, top: Path, name: str) -> None:
    """Copy all files of a folder to ``name`` below ``top``, ``.`` for ``top`` itself. Links to files are
    followed, links to folders are not; the run's own folders are left out. Raises OSError, ValueError."""
    start = os.fspath(source)
    if not os.path.isdir(start):  # noqa: PTH112
        raise NotADirectoryError(f"{start} is no folder")
    own = os.path.realpath(top)
    found = []
    for folder, folders, files in os.walk(start):
        folders[:] = [each for each in folders if os.path.realpath(f"{folder}/{each}") != own]
        if os.path.realpath(folder) == own:
            continue
        for file in files:
            path = f"{folder}/{file}"
            try:
                regular = stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
            except FileNotFoundError:
                continue  # a link to nothing
            if regular:
                found.append((path, os.path.relpath(path, start)))
    for path, relative in found:
        put(path, inside(top, relative if name in ("", ".") else f"{name}/{relative}"))


def put_image(image: bytes | Path, folder: Path, stem: str, suffix: str) -> Path:
    """Keep an image under a name that no other has; where. Raises OSError."""
    make_folder(folder)
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in stem)[:100].lstrip(".")
    for count in range(10**9):
        place = folder / (f"{safe or 'image'}_{count}{suffix}" if count else f"{safe or 'image'}{suffix}")
        try:
            os.close(os.open(str(place), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        except FileExistsError:
            continue
        try:
            put(io.BytesIO(image) if isinstance(image, bytes) else image, place)
        except BaseException:
            place.unlink()
            raise
        break
    return place


def keep_image(outputs: Path, name: str, path: Any, plot: Any) -> str:
    """Keep the image of a metric; its name as the history shows it (``outputs/images/NAME.png``)."""
    if plot is not None:
        picture = io.BytesIO()
        plot.savefig(picture, format="png")
        kept = put_image(picture.getvalue(), outputs / "images", name, ".png")
    else:
        source = Path(path)
        real, top = os.path.realpath(source), os.path.realpath(outputs)
        if real.startswith(top + os.sep):
            return f"outputs/{real[len(top) + 1 :]}"
        kept = put_image(source, outputs / "images", name, source.suffix)
    return f"outputs/images/{kept.name}"
