"""``hpcrun site check NAME --bandwidth``: how fast nodes reach each other, as a table and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcrun.cli.session import make_workspace
from hpcrun.cli.text import printable, short_id
from hpcrun.errors import UsageError
from hpcrun.metrics.picture import blank, check_picture, save

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hpcrun.engine.bandwidth import Sweep
    from hpcrun.models.environment import Environment
    from hpcrun.probe.bandwidth import Measured

_CPU_MOST, _GPU_MOST = 64, 1024
"""The largest message, in MiB, where none is asked for."""


def sweeps_of(asked: dict[str, Any]) -> list[Sweep]:
    """What the options ask to be measured, one sweep after the other. Raises UsageError, ConfigError."""
    from hpcrun.engine.bandwidth import Sweep

    if asked["nodes"] * max(1, asked["gpus"]) < 2:
        raise UsageError("one process has nobody to talk to", hint="Take two nodes or more: --nodes 2.")
    if "nccl" in asked["by"] and not asked["gpus"]:
        raise UsageError("NCCL moves the memory of GPUs", hint="Say how many on each node: --gpus 4.")
    if asked["plot"] is not None:
        check_picture(asked["plot"], example="sweep.png")
    environment, variables = _environment(asked["environment"])
    return [
        Sweep(
            by=by,
            nodes=asked["nodes"],
            gpus=asked["gpus"],
            most=int(asked["up_to"] or (_GPU_MOST if asked["gpus"] else _CPU_MOST)) << 20,
            account=asked["account"],
            environment=environment,
            variables=variables,
        )
        for by in asked["by"] or ("nccl" if asked["gpus"] else "gloo", "mpi")
    ]


def measured_there(
    target: str, sweeps: Sequence[Sweep], asked: dict[str, Any], tell: Callable[[str], None]
) -> list[Measured]:
    """What the sweeps found, each a run of the workspace; drawn, if that was asked."""
    from hpcrun.engine.bandwidth import measure

    workspace = make_workspace()
    history, targets, patience = workspace.history, workspace.targets, float(asked["timeout"])
    found = [measure(history, targets, target, sweep, patience=patience, tell=tell) for sweep in sweeps]
    if asked["plot"] is not None:
        draw(found, asked["plot"], target)
    return found


def _environment(file: Path | None) -> tuple[Environment | None, dict[str, str]]:
    """That of a run.yaml, and its variables: how what is measured is to be started."""
    if file is None:
        return None, {}
    from hpcrun.config.load import load_run_config

    config = load_run_config(file)
    return config.environment, config.environment_variables


def table(measured: Measured) -> None:
    """The sweep on stdout: sizes, then nodes if there are three or more."""
    from hpcrun.probe.bandwidth import rate

    nodes = len(measured.nodes)
    click.echo(
        f"{measured.by}: {measured.processes} processes on {nodes} nodes, "
        f"{printable(measured.library)}, {printable(measured.processor)}, run {short_id(measured.run)}"
    )
    click.echo(f"  {'message':>10}  {'time':>10}  {'algorithm':>12}  {'bus':>12}")
    for size in measured.sizes:
        row = (bytes_text(size.bytes), time_text(size.seconds), rate(size.algorithm), rate(size.bus))
        click.echo("  {:>10}  {:>10}  {:>12}  {:>12}".format(*row))
    if nodes > 2:
        click.echo(f"  {'node':<20}  with the best of its partners")
        for node in measured.nodes:
            value = measured.of_node(node)
            click.echo(f"  {printable(node):<20}  {rate(value) if value is not None else '-'}")


def bytes_text(count: int) -> str:
    """``64 MiB``: powers of two, as messages are."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B"


def time_text(seconds: float) -> str:
    """Three figures of the unit that suits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def draw(found: Sequence[Measured], path: Path, site: str) -> None:
    """Bus bandwidth by the message's size; below it, where there are three nodes or more, each node's."""
    with_nodes = [each for each in found if len(each.nodes) > 2]
    figure = blank(8, 4.5 + 3 * len(with_nodes))
    axes = figure.subplots(1 + len(with_nodes), 1, squeeze=False)[:, 0]
    for each in found:
        sizes = [size.bytes for size in each.sizes]
        axes[0].plot(sizes, [size.bus / 1e9 for size in each.sizes], marker="o", label=each.by)
    axes[0].set_xscale("log", base=2)
    axes[0].set_xlabel("message (bytes)")
    axes[0].set_ylabel("bus bandwidth (GB/s)")
    axes[0].set_title(f"all-reduce on {site}, {found[0].processes} processes, {len(found[0].nodes)} nodes")
    axes[0].grid(True, alpha=0.3)
    axes[0].legend()
    for axis, each in zip(axes[1:], with_nodes, strict=True):
        _draw_nodes(axis, each)
    save(figure, path)


def _draw_nodes(axis: Any, measured: Measured) -> None:
    from hpcrun.probe.bandwidth import slow_nodes

    slow = slow_nodes(measured)
    values = [(measured.of_node(node) or 0.0) / 1e9 for node in measured.nodes]
    colours = ["tab:red" if node in slow else "tab:blue" for node in measured.nodes]
    axis.bar(range(len(values)), values, color=colours)
    axis.set_xticks(range(len(values)), measured.nodes, rotation=90 if len(values) > 8 else 0)
    axis.set_ylabel("with its best partner (GB/s)")
    axis.set_title(f"{measured.by}, node by node" + (f"; slow: {', '.join(slow)}" if slow else ""))
