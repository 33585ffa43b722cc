"""``FunctionRunConfig``: what to run, where that is a Python function."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpcrun.functions.call import pack
from hpcrun.models.run import ScriptRunConfig


class FunctionRunConfig(ScriptRunConfig):
    """A function and its arguments, with all that it needs to run on any compute target.

    >>> run = Experiment(ws, "pi").submit(FunctionRunConfig(inside, (1_000_000,), {"seed": 1}))
    >>> run.result()

    Pickled at once, by cloudpickle: what is changed afterwards does not count. A function of a module goes by
    its name, and the module has to be in ``source_directory`` or in the environment; a lambda, a function
    within a function and one of the program itself go as they are, and need the same minor version of Python
    there. Otherwise as :class:`ScriptRunConfig`: compute_target, environment, resources,
    distributed_job_config (every process calls the function) and the rest.

    Raises ConfigError for what cannot be called so, or cannot be pickled.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        source_directory: str | os.PathLike[str] = ".",
        *,
        max_result_size: str | int | None = None,
        **more: Any,
    ) -> None:
        section, call = pack(function, args, kwargs or {}, os.fspath(source_directory), max_result_size)
        super().__init__(source_directory, None, function=section, **more)
        self._call = call
