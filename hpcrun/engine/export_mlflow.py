"""Runs as MLflow's, by MLflow's own client: into a folder that holds ``mlflow.db`` and artifacts.

An MLflow run has the tag ``hpcrun.run_id``: the next time it is that run which gets what is new. How far it
has been told stands in ``.hpcrun/RUN_ID.json`` in the folder; what MLflow has, it does not take twice.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpcrun.engine.clocks import moment
from hpcrun.engine.export_points import Number, Told, picture_of, told_folder
from hpcrun.engine.measures import series_of
from hpcrun.errors import HpcrunError, UsageError
from hpcrun.history.files import locked, touch
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.metrics.reading import KINDS, Point
from hpcrun.metrics.rows import strict
from hpcrun.states import RunState

RUN_ID = "hpcrun.run_id"

_STATES = {
    RunState.COMPLETED: "FINISHED",
    RunState.FAILED: "FAILED",
    RunState.CANCELED: "KILLED",
    RunState.NOT_STARTED: "SCHEDULED",
    RunState.PREPARING: "SCHEDULED",
    RunState.QUEUED: "SCHEDULED",
}
_BATCH = 1000
"""So many metrics MLflow takes at once."""

_NOT_NAMED = re.compile(r"[^\w./ :-]")


def check_mlflow(folder: Path) -> None:
    """Raises HpcrunError where there is no client, UsageError for a folder that MLflow cannot be told of."""
    import importlib.util

    if any(importlib.util.find_spec(name) is None for name in ("mlflow", "sqlalchemy", "alembic")):
        raise HpcrunError(
            "mlflow is not installed, or not with what it needs to write a database",
            hint="pip install 'hpcrun-toolkit[mlflow]'",
        )
    if set("?#%") & set(str(folder.absolute())):
        raise UsageError(f"MLflow takes no folder with ?, # or % in its name: {folder}")


class MlflowFolder:
    """A folder with a database of MLflow's, which is made if need be. Raises HpcrunError."""

    def __init__(self, folder: Path) -> None:
        check_mlflow(folder)
        self.folder = told_folder(folder.absolute())
        self._told = told_folder(self.folder / ".hpcrun")
        self._artifacts = told_folder(self.folder / "artifacts")
        touch(self.database)
        with _words_on_trouble(), locked(self._told / "lock"):
            self._client = _client(self.uri)

    @property
    def database(self) -> Path:
        return self.folder / "mlflow.db"

    @property
    def uri(self) -> str:
        """What MLflow calls it: ``mlflow ui --backend-store-uri URI``."""
        return f"sqlite:///{self.database}"

    def add(self, history: History, record: RunRecord, *, artifacts: bool = False) -> int:
        """Tell MLflow of a run, or what is new of it; how many points that were. Its files are copied with
        ``artifacts``, else named by a tag. Raises HpcrunError."""
        with _words_on_trouble(), locked(self._told / "lock"):
            run, new = self._run(record)
            path = self._told / f"{record.id}.json"
            told = Told() if new else Told.load(path)
            metrics = history.seen(record).metrics
            if told.is_of_another(metrics):
                told = Told()
            count = 0
            documents: set[str] = set()
            for rank, points in told.unread(metrics):
                self._numbers(run, rank, points, told)
                count += len(points)
                for point in points:
                    self._document(history, record, run, point, documents)
            for series in series_of(history, record) if documents else ():
                if series.name in documents and series.kind in KINDS[2:]:  # all, those told before too
                    name = f"metrics/{_file(series.name)}.json"
                    self._client.log_dict(run, {"kind": series.kind, "values": strict(series.values)}, name)
            if artifacts:
                self._copy(history, record, run)
            self._about(record, run)
            told.save(path)
            return count

    def _run(self, record: RunRecord) -> tuple[str, bool]:
        """The id of MLflow's run for this one, and whether it was made just now."""
        known = self._client.get_experiment_by_name(record.experiment)
        if known is None:
            place = (self._artifacts / record.experiment).as_uri()
            experiment = self._client.create_experiment(record.experiment, artifact_location=place)
        else:
            experiment = known.experiment_id
        there = self._find(experiment, record.id)
        if there is not None:
            return there, False
        name = record.display_name or record.id
        tags = {RUN_ID: record.id}
        parent = None if record.parent is None else self._find(experiment, record.parent)
        if parent is not None:  # MLflow shows it below that one
            tags["mlflow.parentRunId"] = parent
        began = _milliseconds(record.started or record.created)
        made = self._client.create_run(experiment, began, tags, name)
        return str(made.info.run_id), True

    def _find(self, experiment: str, run_id: str) -> str | None:
        found = self._client.search_runs([experiment], f"tags.`{RUN_ID}` = '{run_id}'", max_results=1)
        return str(found[0].info.run_id) if found else None

    def _numbers(self, run: str, rank: int, points: list[Point], told: Told) -> None:
        from mlflow.entities import Metric

        batch = []
        head = f"rank_{rank}/" if rank else ""
        for point in points:
            for each in told.numbers(point):
                batch.append(Metric(_name(head + each.name), each.value, _time(each), each.step))
                if len(batch) == _BATCH:
                    self._client.log_batch(run, metrics=batch)
                    batch = []
        if batch:
            self._client.log_batch(run, metrics=batch)

    def _document(
        self, history: History, record: RunRecord, run: str, point: Point, documents: set[str]
    ) -> None:
        """What is no number: text as a tag, a picture as itself, all else as JSON."""
        picture = picture_of(history, record, point)
        if picture is not None:
            suffix = Path(str(point.value["path"])).suffix[:8]
            path = told_folder(self._told / "pictures") / f"{_file(point.name)}{suffix}"
            path.write_bytes(picture)
            self._client.log_artifact(run, str(path), "metrics")
            path.unlink()
        elif point.kind == "scalar" and isinstance(point.value, str):
            self._client.set_tag(run, _name(f"metric.{point.name}"), point.value[:5000])
        elif point.kind in KINDS[2:]:
            documents.add(point.name)

    def _copy(self, history: History, record: RunRecord, run: str) -> None:
        home = history.paths.run(record.id)
        for folder, name in ((home.outputs, "outputs"), (home.logs, "logs"), (home.user_logs, "user_logs")):
            if folder.is_dir() and any(folder.iterdir()):
                self._client.log_artifacts(run, str(folder.resolve()), name)

    def _about(self, record: RunRecord, run: str) -> None:
        """Parameters, tags and state, as they are now."""
        from mlflow.entities import Param, RunTag

        params = [Param(_name(key), str(value)[:6000]) for key, value in record.parameters.items()]
        tags = [
            RunTag(_name(key), str(value)[:5000]) for key, value in _tags(record) if value not in (None, "")
        ]
        self._client.log_batch(run, params=params, tags=tags)
        status = _STATES.get(record.state, "RUNNING")
        if record.state.final:
            self._client.set_terminated(run, status, _milliseconds(record.ended))
        else:
            self._client.update_run(run, status)


def _tags(record: RunRecord) -> Iterator[tuple[str, Any]]:
    yield from record.tags.items()
    git = record.properties
    yield "mlflow.note.content", record.description
    yield "mlflow.source.git.commit", git.get("git.commit")
    yield "mlflow.source.git.branch", git.get("git.branch")
    yield "mlflow.source.git.repoURL", git.get("git.repository_uri")
    yield "hpcrun.git.dirty", git.get("git.dirty")
    yield "hpcrun.target", record.target
    yield "hpcrun.state", record.state.value
    yield "hpcrun.reason", record.reason
    yield "hpcrun.exit_code", record.exit_code
    yield "hpcrun.folder", record.run_dir if record.host is None else f"{record.host}:{record.run_dir}"
    yield "hpcrun.parent", record.parent


def _client(uri: str) -> Any:
    # Nobody is told what is exported here; and what MLflow says of its tables is for its developers.
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        os.environ[name] = "true"
    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    from mlflow.tracking import MlflowClient

    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.search_experiments(max_results=1)  # the tables come to be
    return client


class _words_on_trouble:
    """Makes an HpcrunError of whatever MLflow and its database say."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None and type(error).__module__.partition(".")[0] in ("mlflow", "sqlalchemy"):
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise HpcrunError(f"MLflow did not take it: {first[:300]}") from error


def _name(name: str) -> str:
    """A name as MLflow takes it. One that is changed gets some digits of its own, so that two stay two."""
    plain = _NOT_NAMED.sub("_", name)[:200].strip() or "_"
    # MLflow takes names for paths, too: none that goes up, or that is the root.
    plain = "/".join(part for part in plain.split("/") if part.strip(".")) or "_"
    return plain if plain == name else f"{plain}_{_digits(name)}"


def _file(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:100]
    return plain if plain == name else f"{plain}_{_digits(name)}"


def _digits(name: str) -> str:
    import hashlib

    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _milliseconds(text: str | None) -> int | None:
    at = moment(text)
    return None if at is None else int(at.timestamp() * 1000)


def _time(number: Number) -> int:
    return max(0, min(2**62, int(number.time * 1000)))
