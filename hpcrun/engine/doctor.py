"""Looking after sites: writing the file of one that was asked, and asking again whether its file is right."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcrun.config.sites import SUFFIXES, read_site
from hpcrun.engine.probe import ask
from hpcrun.errors import CommandError, ConfigError, HpcrunError
from hpcrun.probe.findings import Finding, Level, worst_first
from hpcrun.shells import shell_for

if TYPE_CHECKING:
    from hpcrun.models.site import Site
    from hpcrun.shells.base import PosixShell


@dataclass(frozen=True)
class Line:
    """The connection to a site: ``was_open`` before anything was asked (None where nobody knows); how many
    milliseconds the shortest question takes now that it is."""

    host: str
    was_open: bool | None
    milliseconds: int


@dataclass(frozen=True)
class SiteReport:
    """What looking at a site found, the worst first; ``asked`` is when, in UTC."""

    site: str
    path: str
    asked: str
    slurm: str
    hostname: str
    seconds: float
    connection: Line | None
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found that makes runs fail."""
        return not self.of("problem")

    @property
    def exit_code(self) -> int:
        """What ``hpcrun site check`` ends with."""
        return 0 if self.ok else ConfigError.exit_code

    def of(self, level: Level) -> list[Finding]:
        """The findings of one level."""
        return [each for each in self.findings if each.level == level]

    def with_more(self, findings: Sequence[Finding]) -> SiteReport:
        """The same with more findings."""
        from dataclasses import replace

        return replace(self, findings=worst_first([*self.findings, *findings]))

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, for JSON."""
        return {
            **{key: getattr(self, key) for key in ("site", "path", "asked")},
            "ok": self.ok,
            **{key: getattr(self, key) or None for key in ("slurm", "hostname")},
            "milliseconds": round(self.seconds * 1000),
            "connection": None if self.connection is None else asdict(self.connection),
            "findings": [each.as_dict() for each in self.findings],
        }


def examine(site: Site, path: Path, shell: PosixShell | None = None) -> SiteReport:
    """Ask a site, and compare what it says with its file. Raises CommandError, UnreachableError."""
    from hpcrun.probe.compare import compare

    shell = shell or shell_for(site.connection)
    was_open = _is_open(shell)
    when = datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    asked = ask(shell, site)
    facts = asked.facts
    findings = worst_first(compare(site, facts, asked.skew))
    line = _line(shell, was_open)
    return SiteReport(site.name, str(path), when, facts.slurm, facts.hostname, asked.seconds, line, findings)


def _is_open(shell: PosixShell) -> bool | None:
    master = getattr(shell, "master", None)
    return None if master is None else bool(master.is_open())


def _line(shell: PosixShell, was_open: bool | None) -> Line | None:
    host = getattr(shell, "host", None)
    if host is None:
        return None
    began = time.monotonic()
    shell.run(["true"], timeout=30.0).check("the shortest of questions")
    return Line(host, was_open, round((time.monotonic() - began) * 1000))


def file_of(name: str, folder: Path) -> Path:
    """The file of a site in a folder of sites: the one that is there, or the one to be made."""
    there = [path for suffix in reversed(SUFFIXES) if (path := folder / f"{name}{suffix}").exists()]
    return there[0] if there else folder / f"{name}{SUFFIXES[-1]}"


def is_unfinished(site: Site) -> bool:
    """Whether a site's file says no more than how to get there."""
    return site.model_fields_set <= {"name", "description", "connection"}


def read_text(name: str, text: str) -> Site:
    """The site that a text describes, read as its file would be. Raises ConfigError."""
    with tempfile.TemporaryDirectory(prefix="hpcrun-") as folder:
        path = Path(folder, f"{name}.yaml")
        path.write_text(text, encoding="utf-8")
        return read_site(path)


def write_site(path: Path, text: str) -> None:
    """Put a site's file in place, whole, and only if it can be read. Raises ConfigError, HpcrunError."""
    read_text(path.stem, text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".new-", dir=path.parent))
        try:
            new = aside / path.name
            with new.open("w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise HpcrunError(f"cannot write {path}: {error.strerror}", hint="Nothing was changed.") from error


def no_slurm(host: str, trouble: str) -> CommandError:
    """The error for a machine that has no Slurm, or whose Slurm does not answer."""
    if trouble:
        hint = "Nothing was written. Once 'sinfo' answers there, try again."
        return CommandError(f"{host}: Slurm does not answer: {trouble}", hint=hint)
    hint = "Is it the cluster's login node? If a module brings Slurm, load it in ~/.bash_profile there."
    return CommandError(f"{host} has no Slurm: neither PATH nor a login shell finds sbatch", hint=hint)
