"""Where the files lie that come with hpcrun: templates, site descriptions, the quickstart."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped_folder(name: str, *, package: Path = _PACKAGE) -> Path:
    """The folder ``name`` (``templates``, ``site_configs``, ``examples/quickstart``).

    A wheel carries these folders inside the package; in a checkout they stand beside it.
    """
    inside = package / "_shipped" / name
    return inside if inside.is_dir() else package.parent / name
