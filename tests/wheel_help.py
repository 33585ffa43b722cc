"""Packages made on the spot: wheels of one module each."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def wheel(
    folder: Path,
    name: str,
    version: str,
    code: str,
    requires: Sequence[str] = (),
    more: Mapping[str, str] | None = None,
) -> Path:
    """A wheel in ``folder`` of the module ``name``, which needs ``requires``; ``more`` are other files."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    about = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
    files = {
        f"{name}.py": code,
        **(more or {}),
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={_digest(text)},{len(text)}\n" for path, text in files.items())
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
        archive.writestr(f"{about}/RECORD", f"{record}{about}/RECORD,,\n")
    path.chmod(0o644)
    return path


def repacked(folder: Path, name: str) -> Path:
    """A wheel of a package that is installed here, with all of its own files."""
    found = importlib.metadata.distribution(name)
    about = found.read_text("WHEEL") or ""
    tag = next(line.split(": ", 1)[1] for line in about.splitlines() if line.startswith("Tag: "))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    path = folder / f"{name}-{found.version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in found.files or ():
            source = Path(str(found.locate_file(file)))
            if ".." not in file.parts and source.suffix != ".pyc" and source.is_file():
                archive.write(source, str(file))
    path.chmod(0o644)
    return path


BACKEND = """\
import zipfile
def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "NAME-VERSION-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as archive:
        archive.writestr("NAME.py", open("NAME.py").read())
        for file, text in FILES.items():
            archive.writestr(f"NAME-VERSION.dist-info/{file}", text)
    return name
FILES = {
    "METADATA": "Metadata-Version: 2.1\\nName: NAME\\nVersion: VERSION\\n",
    "WHEEL": "Wheel-Version: 1.0\\nGenerator: tests\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    "RECORD": "",
}
"""


def sdist(folder: Path, name: str, version: str, code: str) -> Path:
    """A source distribution of one module, which pip builds without anything else."""
    files = {
        f"{name}.py": code,
        "backend.py": BACKEND.replace("NAME", name).replace("VERSION", version),
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file, text in files.items():
            info = tarfile.TarInfo(f"{name}-{version}/{file}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
