"""A conda environment: one that exists, by name or by prefix, or one that hpcrun made.

For one that exists, conda.sh is sourced by its absolute path (``.bashrc`` may never be read), with ``set -u``
relaxed around it, and the prefix is verified: ``conda activate`` has been seen to say yes and change nothing.
One that hpcrun made needs no conda to be there: what ``conda activate`` does is done to its prefix.
"""

from __future__ import annotations

from hpcrun.environments.base import Setting
from hpcrun.errors import ConfigError, Problem
from hpcrun.models.environment import Environment
from hpcrun.quoting import ShellText, ShellWord


class CondaEnvironment:
    def __init__(self, environment: Environment, setting: Setting) -> None:
        assert environment.conda is not None
        self._conda = environment.conda
        self._python = environment.python.interpreter_path or "python"
        root = setting.site.conda.root or setting.conda_root
        if root is None and not self._conda.made:
            raise ConfigError(
                [
                    Problem(
                        f"nothing says where conda lies on {setting.site.name!r}",
                        path="environment.conda",
                        hint=f"Set conda.root in site_configs/{setting.site.name}.yaml to the folder "
                        "that holds etc/profile.d/conda.sh.",
                    )
                ]
            )
        self._root = root

    def activate(self) -> ShellText:
        if self._conda.made:
            return ShellText('hpcrun_activate_conda "" "$HPCRUN_ENVIRONMENT/prefix" made')
        assert self._root is not None
        wanted = self._conda.prefix or self._conda.name or ""
        return ShellText(
            "hpcrun_activate_conda {} {} {}",
            ShellWord(self._root),
            ShellWord(wanted),
            ShellWord("prefix" if self._conda.prefix else "name"),
        )

    def wrap(self) -> ShellText:
        return ShellText("exec")

    def python(self) -> ShellWord:
        return ShellWord(self._python)
