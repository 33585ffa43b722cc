"""The rules in their order: the first that has something to say is heard."""

from __future__ import annotations

from dataclasses import replace

from hpcrun.explain import ends, imports, packs, script
from hpcrun.explain.efficiency import used
from hpcrun.explain.facts import Explanation, Facts, Rule
from hpcrun.explain.pending import under_way

# What is certain comes first: words of the scheduler, then what the log says in particular, then in general.
RULES: tuple[Rule, ...] = (
    ends.steps_rule,
    ends.dependency_rule,
    ends.completed_rule,
    ends.canceled_rule,
    ends.rejected_rule,
    ends.taken_rule,
    packs.pack_rule,
    ends.folder_rule,
    ends.environment_rule,
    ends.timeout_rule,
    ends.memory_rule,
    ends.node_rule,
    ends.launch_rule,
    ends.early_rule,
    imports.import_rule,
    script.function_rule,
    script.gpu_memory_rule,
    script.no_gpu_rule,
    script.disk_rule,
    script.address_rule,
    script.nccl_rule,
    ends.signal_rule,
    script.python_memory_rule,
    script.no_file_rule,
    script.exception_rule,
    script.arguments_rule,
    script.program_rule,
    ends.lost_rule,
)


def explain(facts: Facts) -> Explanation:
    """Why the run is as it is; there is always something to say."""
    if not facts.state.final:
        return under_way(facts)
    found = next(filter(None, (rule(facts) for rule in RULES)), None) or ends.bad_exit_rule(facts)
    return replace(found, used=used(facts.usage, facts.time_limit))
