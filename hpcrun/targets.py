"""From a compute target's name to what reaches it: the site, its scheduler, its folders."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpcrun.errors import ConfigError
from hpcrun.schedulers.base import Scheduler
from hpcrun.shells import shell_for
from hpcrun.shells.base import Shell

if TYPE_CHECKING:
    from hpcrun.models.site import Site


@dataclass(frozen=True)
class Target:
    """A compute target that can be used: ``name`` is ``SITE`` or ``SITE:PARTITION``."""

    name: str
    partition: str | None
    site: Site
    scheduler: Scheduler
    shell: Shell

    def run_dir(self, home: Path, run_id: str) -> Path:
        """The run's folder on the target: below the site's root, or the one in the workspace (``home``)."""
        if self.site.root is None:
            return home
        expanded = Path(os.path.expandvars(self.site.root)).expanduser()
        if not expanded.is_absolute():
            raise ConfigError(
                f"the root of site {self.site.name!r} is no absolute path here: {self.site.root}"
            )
        return expanded / "runs" / run_id


class Targets:
    """The compute targets that a workspace knows, opened when first asked for."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._open: dict[str, Target] = {}

    def get(self, name: str) -> Target:
        """The target ``SITE`` or ``SITE:PARTITION``. Raises NotFoundError, ConfigError."""
        if name not in self._open:
            from hpcrun.config.sites import load_site, split_target

            site_name, partition = split_target(name)
            site = load_site(site_name, self._workspace)
            shell = shell_for(site.connection)
            self._open[name] = Target(name, partition, site, _scheduler(site, shell), shell)
        return self._open[name]

    def scheduler_of(self, name: str) -> Scheduler:
        """The scheduler behind a target, by its site alone: a partition may have been renamed since."""
        return self.get(name.partition(":")[0]).scheduler


def _scheduler(site: Site, shell: Shell) -> Scheduler:
    if site.scheduler.type == "local":
        from hpcrun.schedulers.local import LocalScheduler

        return LocalScheduler(_local_queue(), site.scheduler.max_running)
    from hpcrun.schedulers.slurm import SlurmScheduler

    return SlurmScheduler(shell, accounting=site.scheduler.accounting)


def _local_queue() -> Path:
    import platformdirs

    return platformdirs.user_state_path("hpcrun") / "local"
