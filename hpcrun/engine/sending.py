"""The steps of a submission, each written down before it is taken, and the lock that is held meanwhile."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hpcrun.engine import environments
from hpcrun.engine.clocks import seconds_since
from hpcrun.engine.giving import give
from hpcrun.engine.waits import InVainError, check_waits, jobs_before, too_early
from hpcrun.errors import (
    CommandError,
    HistoryError,
    HpcrunError,
    SubmissionAmbiguous,
    SubmissionRejected,
    UnreachableError,
)
from hpcrun.history.paths import RunPaths, TablePaths
from hpcrun.history.record import RunRecord, utc_now
from hpcrun.history.store import History
from hpcrun.places.refs import ref_of
from hpcrun.places.writing import append
from hpcrun.quoting import Secret
from hpcrun.schedulers.base import JobRequest, SubmissionPostponed
from hpcrun.states import Reason, RunState
from hpcrun.targets import Targets

_TAIL = 65536


def carry_out(
    history: History,
    targets: Targets,
    record: RunRecord,
    lock_fd: int,
    values: Mapping[str, Secret] | None = None,
) -> RunRecord:
    """Send a run that is written down but not sent. The caller holds the submit lock.

    ``values`` are those of its secrets; None to read them from where the record says that they are.

    Raises SubmissionRejected (written down as such), UnreachableError before anything was submitted, or
    SubmissionAmbiguous: see reconcile.settle.
    """
    target = targets.get(record.target)
    if too_early(history, record):  # it is sent as soon as all before it are: by reconcile.reconcile
        return history.update(record.id, _held_back)
    try:
        check_waits(history, record)  # before much is sent for nothing
        give(history, targets, record)
        whole = target.place.fill(history, record, values)
    except InVainError as exc:
        return _end_unsent(history, targets, record, str(exc))
    except UnreachableError:
        raise  # it is sent as soon as its site can be reached: by reconcile.reconcile
    except (OSError, HpcrunError) as exc:
        error = SubmissionRejected(f"the run's folder cannot be made: {exc}")
        raise reject(history, targets, record.id, error) from exc
    if not whole:
        record = begin_making(history, targets, record)
        if record.submission["state"] == "preparing" or record.state.final:
            return record
    try:
        waits = jobs_before(history, targets, record)
    except InVainError as exc:
        return _end_unsent(history, targets, record, str(exc))

    def sending(r: RunRecord) -> None:
        if r.state.final:
            return
        r.submission = {**r.submission, "state": "submitting", "began": utc_now(), "waits": waits}
        r.submission.pop("script", None)
        r.message = ""

    record = history.update(record.id, sending)
    if record.state.final:  # canceled before anything was sent
        targets.forget_secrets(history, record)
        return record
    wanted = {**record.submission["request"]}
    wanted["after"] = [*wanted.get("after", []), *waits, *built_by(record)]
    token = str(record.submission.get("tries", 0))
    request = JobRequest(record.id, Path(record.run_dir), lock_fd=lock_fd, token=token, **wanted)
    try:
        job_id = target.scheduler.submit(request)
    except SubmissionRejected as exc:
        raise reject(history, targets, record.id, exc) from exc
    except SubmissionAmbiguous as exc:
        mark(history, record.id, "ambiguous", exc.message)
        raise
    return adopt(history, targets, record.id, job_id)


def begin_making(history: History, targets: Targets, record: RunRecord, dead: str = "") -> RunRecord:
    """Have the environment of a run made. Raises SubmissionRejected where that came to nothing too often."""
    made, known = record.config["environment"], record.submission.get("environment", {})
    if known.get("begun", 0) >= environments.BEGINNINGS:
        words = (
            f"the {made['title']} could not be made: its builder died without a word, {known['begun']} times"
        )
        raise _not_made(history, targets, record, words)
    paths = history.paths.run(record.id)
    shell = targets.get(record.target).shell
    try:
        script = paths.builder.read_text("utf-8", "surrogateescape")
        if made.get("job"):
            stand = environments.begin_job(shell, made, script, dead)
        else:
            stand = environments.begin(shell, made, script, dead)
    except UnreachableError:
        raise
    except (OSError, CommandError) as exc:
        raise _not_made(history, targets, record, str(exc)) from exc

    def change(r: RunRecord) -> None:
        if r.state.final:
            return
        if made.get("job") and stand.word in ("job", "ready"):
            r.submission = {
                **r.submission,
                "environment": {"job": stand.folder if stand.word == "job" else ""},
            }
            return
        begun = {"folder": stand.folder, "beat": stand.beat, "beat_at": utc_now(), "seen": 0}
        begun["begun"] = known.get("begun", 0) + 1
        r.submission = {**r.submission, "state": "preparing", "environment": begun}
        r.state, r.message = RunState.PREPARING, f"the {made['title']} is being made"

    return history.update(record.id, change)


def go_on(
    history: History,
    targets: Targets,
    record: RunRecord,
    lock_fd: int,
    values: Mapping[str, Secret] | None = None,
    *,
    seconds: int = 0,
) -> RunRecord:
    """Look after the environment that a run waits for, ``seconds`` at most; submit the run once it is there.

    The caller holds the submit lock. Raises as :func:`carry_out`, SubmissionRejected if it cannot be made.
    """
    made, known = record.config["environment"], dict(record.submission["environment"])
    target = targets.get(record.target)
    stand = environments.look(target.shell, made, known["folder"], known["seen"], seconds)
    paths = history.paths.run(record.id)
    if stand.log:
        append(paths.environment_log, stand.log)

    def change(r: RunRecord) -> None:
        if r.state.final or r.submission["state"] != "preparing":
            return
        seen = r.submission["environment"]
        seen = {**seen, "seen": seen["seen"] + len(stand.log)}
        if (stand.folder, stand.beat) != (seen["folder"], seen["beat"]) and stand.word == "building":
            seen = {**seen, "beat": stand.beat, "beat_at": utc_now()}
            if stand.folder != seen["folder"]:
                seen = {**seen, "folder": stand.folder, "seen": 0}
        r.submission = {**r.submission, "environment": seen}

    record = history.update(record.id, change)
    if record.state.final:
        return record
    if stand.wanted and target.remote is not None:
        from hpcrun.engine.bringing import bring

        bring(target.remote, made, paths.builder.read_text("utf-8", "surrogateescape"), stand, seconds)
        return record
    if stand.word == "ready":
        return carry_out(history, targets, record, lock_fd, values)
    if stand.word == "failed":
        said = environments.telling(paths.environment_log.read_bytes()[-_TAIL:].decode("utf-8", "replace"))
        raise _not_made(history, targets, record, f"the {made['title']} could not be made: {said}")
    if stand.word == "none":
        return begin_making(history, targets, record)
    if seconds_since(record.submission["environment"]["beat_at"]) > environments.DEAD:
        return begin_making(history, targets, record, dead=stand.folder)
    return record


def built_by(record: RunRecord) -> list[str]:
    """The job that makes the run's environment, as what the run's own waits for."""
    job = record.submission.get("environment", {}).get("job")
    return [f"afterok:{job}"] if job else []


def _not_made(history: History, targets: Targets, record: RunRecord, words: str) -> SubmissionRejected:
    hint = f"Nothing was submitted. All that was said: hpcrun explain {record.id}"
    return reject(history, targets, record.id, SubmissionRejected(words, hint=hint), Reason.ENVIRONMENT)


def _held_back(r: RunRecord) -> None:
    if r.state is RunState.NOT_STARTED:
        r.reason = Reason.DEPENDENCY.value
    r.submission = {**r.submission, "state": "intent"}


def _end_unsent(history: History, targets: Targets, record: RunRecord, why: str) -> RunRecord:
    """The end of a run whose wait is in vain before it was sent: as the scheduler's, of one that was."""

    def change(r: RunRecord) -> None:
        if not r.state.final:
            r.state, r.reason, r.message, r.ended = RunState.CANCELED, Reason.DEPENDENCY.value, why, utc_now()
            r.submission.pop("script", None)

    targets.forget_secrets(history, record)
    return history.update(record.id, change)


def adopt(history: History, targets: Targets, run_id: str, job_id: str) -> RunRecord:
    """Write down that the run's job is ``job_id``; cancel it, if that was asked for before it was known."""

    def change(r: RunRecord) -> None:
        r.job_id = job_id
        r.submitted = r.submitted or utc_now()
        r.submission = {**r.submission, "state": "submitted", "ended": utc_now()}
        if r.state in (RunState.NOT_STARTED, RunState.PREPARING):
            r.state = RunState.PREPARING if built_by(r) else RunState.QUEUED

    record = history.update(run_id, change)
    if record.state is RunState.CANCEL_REQUESTED:
        targets.scheduler_of(record.target).cancel([ref_of(record)])
    return record


def mark(history: History, run_id: str, state: str, message: str = "") -> RunRecord:
    """Write down how far the submission got."""

    def change(r: RunRecord) -> None:
        r.submission = {**r.submission, "state": state, "ended": utc_now(), "message": message}

    return history.update(run_id, change)


def reject(
    history: History,
    targets: Targets,
    run_id: str,
    error: SubmissionRejected,
    reason: Reason = Reason.REJECTED,
) -> SubmissionRejected:
    """Write down that nothing was submitted, and why; gives the error back to be raised."""

    def change(r: RunRecord) -> None:
        r.submission = {**r.submission, "state": "rejected", "ended": utc_now(), "message": error.message}
        r.submission["hint"] = error.hint
        if isinstance(error, SubmissionPostponed):
            r.submission["postponed"] = True  # of a trial its sweep takes this run away, and makes another
        r.submission.pop("script", None)
        r.state, r.reason, r.message = RunState.FAILED, reason.value, error.message
        r.ended = utc_now()
        r.key = None  # nothing ran under this key: the corrected submission may have it

    targets.forget_secrets(history, history.get(run_id))
    history.update(run_id, change)
    return error


def unmake(paths: RunPaths) -> None:
    """Take away the empty folder of a run that did not come to be."""
    paths.diff.unlink(missing_ok=True)
    paths.function.unlink(missing_ok=True)
    paths.builder.unlink(missing_ok=True)
    paths.submit_lock.unlink(missing_ok=True)
    paths.folder.rmdir()


@contextmanager
def first_held(paths: RunPaths) -> Iterator[int]:
    """The submit lock of a run that nobody else can know of yet."""
    paths.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths.folder.mkdir(mode=0o700, exist_ok=True)
    with held(paths) as fd:
        if fd is None:
            raise SubmissionRejected(f"run {paths.folder.name} is being submitted by another process")
        yield fd


@contextmanager
def held(paths: RunPaths | TablePaths) -> Iterator[int | None]:
    """The submit lock, or None if another process has it. Never waits."""
    fd = os.open(paths.submit_lock, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        except OSError as exc:
            raise HistoryError(
                f"cannot lock {paths.submit_lock}: {exc.strerror}",
                hint="Put the workspace where flock works (HPCRUN_WORKSPACE names another folder).",
            ) from exc
        else:
            yield fd
    finally:
        os.close(fd)
