"""Names of files that several rooms must know."""

from __future__ import annotations

PARTIAL = ".hpcrun-partial"
"""The folder, beside a file that is being brought, that holds what has come of it."""
