"""``hpcrun export mlflow|csv|parquet RUN… -o FOLDER``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcrun.cli.completing import complete_runs
from hpcrun.cli.group import Command
from hpcrun.cli.metricslook import brought
from hpcrun.cli.options import children_option, json_option
from hpcrun.cli.session import open_workspace, refresh_active, resolve, tell_trouble, with_children
from hpcrun.cli.text import print_json
from hpcrun.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpcrun.history.record import RunRecord
    from hpcrun.history.store import History

FORMATS = ("mlflow", "csv", "parquet")


@click.command("export", cls=Command)
@click.argument("form", type=click.Choice(FORMATS), metavar="FORMAT")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", shell_complete=complete_runs)
@click.option(
    "-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
    help="Where to write; made if need be.",
)  # fmt: skip
@click.option("--artifacts", is_flag=True, help="mlflow: copy outputs and logs, too.")
@children_option
@json_option
def command(
    form: str, runs: tuple[str, ...], output: Path, artifacts: bool, children: bool, as_json: bool
) -> None:
    """Runs and all that they have measured for other programs: FORMAT is mlflow, csv or parquet."""
    if artifacts and form != "mlflow":
        raise UsageError(f"--artifacts is for mlflow, and {form} holds none")
    _check(form, output)
    workspace = open_workspace()
    history = workspace.history
    ids = with_children(workspace, runs) if children else resolve(workspace, runs)
    tell_trouble({**refresh_active(workspace, ids), **brought(workspace, ids)})
    records = [history.get(run) for run in ids]
    files = _written(form, history, records, output, artifacts)
    if as_json:
        print_json({"format": form, "runs": ids, "files": [str(path) for path in files]})
        return
    for path in files:
        click.echo(str(path))
    if form == "mlflow":
        click.echo(f"see it: mlflow ui --backend-store-uri sqlite:///{files[0].absolute()}", err=True)


def _check(form: str, output: Path) -> None:
    """Before anything is looked at: whether it can be written. Raises HpcrunError."""
    if form == "mlflow":
        from hpcrun.engine.export_mlflow import check_mlflow

        check_mlflow(output)
    if form == "parquet":
        from hpcrun.engine.export_tables import check_parquet

        check_parquet()


def _written(
    form: str, history: History, records: Sequence[RunRecord], output: Path, artifacts: bool
) -> list[Path]:
    if form == "mlflow":
        from hpcrun.engine.export_mlflow import MlflowFolder

        folder = MlflowFolder(output)
        for record in records:
            folder.add(history, record, artifacts=artifacts)
        return [output / folder.database.name]
    from hpcrun.engine.export_tables import export_csv, export_parquet

    return (export_csv if form == "csv" else export_parquet)(history, records, output)
