"""What a waiting run asks for, and which partitions of its site would take it, by the site's file."""

from __future__ import annotations

from hpcrun.errors import HpcrunError
from hpcrun.explain.facts import Ask, Partition
from hpcrun.history.record import RunRecord
from hpcrun.targets import Targets


def asked(record: RunRecord, targets: Targets) -> tuple[Ask, dict[str, Partition]]:
    """By the configuration that the run was submitted with; nothing, if that or the site cannot be read."""
    from hpcrun.check.limits import asked_of, described, excesses
    from hpcrun.config.load import read_run_config
    from hpcrun.models.layout import LayoutError

    try:
        site = targets.get(record.target.partition(":")[0]).site
        config = read_run_config(str(record.config.get("yaml")), f"configuration of {record.id}")
        want = asked_of(config, site)
    except (HpcrunError, LayoutError):
        return Ask(), {}
    ask = Ask(
        partition=config.resources.partition or "",
        time=want.time,
        nodes=want.nodes,
        cpus=want.nodes * want.cpus,
        memory=want.memory,
        gpus=want.gpus,
        gpu_type=want.gpu_type,
    )
    partitions = {}
    for name, limits in described(site).items():
        over = {excess.code for excess in excesses(want, limits)}
        if want.gpus and limits.gpus is None:
            over.add("GPUs")  # nobody says that it has any
        takes = "as it is" if not over else "shorter" if over == {"Time"} else ""
        partitions[name] = Partition(limits.time, limits.nodes, takes)
    return ask, partitions
