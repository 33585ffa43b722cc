"""What a run brings along for environments that have no hpcrun: the modules that scripts use."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from hpcrun.history.record import RunRecord

FOLDER = "lib"
"""In the run's folder; job.sh has it at the end of PYTHONPATH."""

_HERE = Path(__file__).resolve().parent


def wanted(record: RunRecord) -> bool:
    """Whether the run's script looks for it."""
    return f"$HPCRUN_RUN_DIR/{FOLDER}" in str(record.submission["script"])


@cache
def files() -> dict[str, str]:
    """Texts by path below :data:`FOLDER`."""
    modules = sorted(_HERE.parent.glob("tracking*.py"))
    texts = {f"hpcrun/{path.name}": path.read_text(encoding="utf-8") for path in modules}
    return {**texts, "hpcrun/__init__.py": (_HERE / "stand_in.py").read_text(encoding="utf-8")}


@cache
def packed() -> tuple[str, str]:
    """The name that a site keeps them under, after their contents; and all of them as text: base64 of a
    gzipped tar."""
    import base64
    import gzip
    import hashlib
    import io
    import tarfile

    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, text in files().items():
            entry = tarfile.TarInfo(name)
            content = text.encode()
            entry.size, entry.mode = len(content), 0o600
            tar.addfile(entry, io.BytesIO(content))
    data = whole.getvalue()
    return hashlib.sha256(data).hexdigest()[:16], base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()
