"""The job that many trials share: whether they can, and its script.

The trials of a pack are lines of a table, as those of an array are: see :mod:`hpcrun.engine.tables`, and
:mod:`hpcrun.engine.packed` for what becomes of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from hpcrun.engine.prepare import Plan, template_folders
from hpcrun.errors import ConfigError, Problem
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.tables import Table
from hpcrun.launchers.farming import farm_config
from hpcrun.places.refs import array_folder
from hpcrun.places.table import leader_mark, trial_script
from hpcrun.render import render_script

if TYPE_CHECKING:
    from hpcrun.models.pack import Pack


def check_pack(plan: Plan) -> None:
    """Whether trials like this one can share a job. Raises ConfigError with all that is against it."""
    from hpcrun.models.pack import unfit

    words = unfit(plan.config)
    if plan.target.site.scheduler.type != "slurm":
        site = plan.target.site.name
        words.append(f"a pack is one job of Slurm's, and {site} has none: leave pack out, or name a cluster")
    if plan.before or plan.given:
        words.append("a pack waits for no other run yet: leave inputs of runs that have not ended out")
    if words:
        raise ConfigError([Problem(each, path="sweep.pack") for each in dict.fromkeys(words)])


def with_job(
    table: Table, plan: Plan, pack: Pack, variables: Mapping[str, str], paths: WorkspacePaths
) -> Table:
    """The table with the script of the job that runs its trials; ``plan`` is that of a trial with the table's
    marks, ``variables`` are those of all trials."""
    leader = leader_mark(table)
    folder = array_folder(plan.run_dir, leader)
    title = f"{len(table.lines)} trials of {table.parent}"
    config = farm_config(plan.config, pack, len(table.lines), table.limit, folder, title)
    job = replace(
        plan.job,
        run_id=leader,
        run_dir=folder,
        config=config.model_copy(update={"environment_variables": dict(variables)}),
        resume_path=None,
        inputs={},
        tracking=False,
        packed=False,
        pack=trial_script(table, table.record(0), folder).rstrip("\n"),
    )
    return replace(table, pack=render_script(job, template_folders(paths)))
