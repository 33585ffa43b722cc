"""Measuring how fast nodes reach each other: an ordinary run of a small program, kept in the history.

It starts as training does: with the environment, the launcher and the site's variables that training has.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hpcrun.errors import CommandError, NotFoundError, WaitTimeoutError
from hpcrun.probe.bandwidth import PROGRAM, RESULT, By, Measured, program_folder, read_measured
from hpcrun.states import RunState

if TYPE_CHECKING:
    from hpcrun.history.record import RunRecord
    from hpcrun.history.store import History
    from hpcrun.models.environment import Environment
    from hpcrun.models.run import ScriptRunConfig
    from hpcrun.targets import Targets

EXPERIMENT = "site-check"


@dataclass(frozen=True)
class Sweep:
    """What is to be measured: ``by`` which library, on how many nodes, with a process for each of ``gpus`` on
    a node (one a node without GPUs), with messages of ``most`` bytes at most."""

    by: By
    nodes: int = 2
    gpus: int = 0
    most: int = 1 << 30
    account: str | None = None
    seconds: int = 600
    environment: Environment | None = None
    variables: dict[str, str] = field(default_factory=dict)


def sweep_config(target: str, sweep: Sweep) -> ScriptRunConfig:
    """The run that measures. ``target`` is SITE or SITE:PARTITION."""
    from hpcrun.models.distributed import MpiConfiguration, PyTorchConfiguration
    from hpcrun.models.environment import Environment
    from hpcrun.models.resources import Resources
    from hpcrun.models.run import ScriptRunConfig

    each = max(1, sweep.gpus)
    distributed = (
        MpiConfiguration(each, sweep.nodes)
        if sweep.by == "mpi"
        else PyTorchConfiguration(sweep.by, each * sweep.nodes, sweep.nodes)
    )
    resources: dict[str, object] = {"gpus_per_node": sweep.gpus} if sweep.gpus else {}
    if sweep.account is not None:
        resources["account"] = sweep.account
    return ScriptRunConfig(
        program_folder(),
        PROGRAM,
        ["--by", sweep.by, "--most", sweep.most],
        experiment=EXPERIMENT,
        display_name=f"bandwidth by {sweep.by}",
        compute_target=target,
        environment=sweep.environment or Environment(),
        environment_variables=sweep.variables,
        distributed_job_config=distributed,
        resources=Resources(time=sweep.seconds, **resources),
    )


def measure(
    history: History,
    targets: Targets,
    target: str,
    sweep: Sweep,
    *,
    patience: float,
    tell: Callable[[str], None] = lambda words: None,
) -> Measured:
    """Submit the run, wait for it, and read what it found; ``tell`` hears how it stands.

    However this is interrupted, the run is canceled. Raises CommandError where it failed, and what
    submitting raises.
    """
    from hpcrun.engine.prepare import prepare
    from hpcrun.engine.submit import Extras, submit
    from hpcrun.engine.wait import wait

    plan = prepare(sweep_config(target, sweep), history.paths, targets)
    try:
        record, _ = submit(history, targets, plan, Extras())
        tell(f"{sweep.by}: run {record.id}, job {record.job_id or '(none yet)'}")
        record = wait(history, targets, record.id, timeout=patience, on_look=_Teller(sweep.by, tell))
    except WaitTimeoutError as error:
        _take_back(history, targets, plan.run_id)
        raise WaitTimeoutError(
            f"run {plan.run_id} had not ended after {patience:.0f} s, and was canceled",
            hint="Wait longer with --timeout, or take a partition that is less busy.",
        ) from error
    except BaseException:
        _take_back(history, targets, plan.run_id)
        raise
    if record.state is not RunState.COMPLETED:
        words = f": {record.message}" if record.message else ""
        raise CommandError(
            f"measuring by {sweep.by} ended as {record.state} ({record.reason}){words}",
            hint=f"Why: hpcrun explain {record.id}. Its environment needs "
            f"{'mpi4py' if sweep.by == 'mpi' else 'torch'}: name one by --environment FILE.",
        )
    path = history.paths.run(record.id).outputs / RESULT
    try:
        return read_measured(path.read_text(encoding="utf-8"), record.id)
    except (OSError, ValueError) as error:
        raise CommandError(f"cannot read {path}: {error}", hint=f"See: hpcrun logs {record.id}") from error


def _take_back(history: History, targets: Targets, run_id: str) -> None:
    """Cancel the run, wherever its submission was broken off."""
    from hpcrun.engine.cancel import cancel

    with suppress(NotFoundError):
        cancel(history, targets, run_id)


class _Teller:
    """Says each new state once."""

    def __init__(self, by: str, tell: Callable[[str], None]) -> None:
        self._by, self._tell, self._told = by, tell, ""

    def __call__(self, record: RunRecord) -> None:
        words = f"{record.state} ({record.reason})" if record.reason else str(record.state)
        if words != self._told:
            self._tell(f"{self._by}: {words}")
        self._told = words
