"""An interpreter that is there already: the current environment's, or one named by its path."""

from __future__ import annotations

from hpcrun.environments.base import Setting
from hpcrun.models.environment import Environment
from hpcrun.quoting import ShellText, ShellWord


class SystemEnvironment:
    def __init__(self, environment: Environment, setting: Setting) -> None:
        self._python = environment.python.interpreter_path or setting.default_python or "python3"
        # A bare default is only wanted by Python scripts: a command may need no Python at all.
        self._required = environment.python.interpreter_path is not None

    def activate(self) -> ShellText:
        if not self._required:
            return ShellText("")
        return ShellText(
            "command -v {} >/dev/null 2>&1 ||\n"
            '    hpcrun_fail_environment "there is no interpreter" {} '
            '"on $(hostname): see environment.python"',
            ShellWord(self._python),
            ShellWord(self._python),
        )

    def wrap(self) -> ShellText:
        return ShellText("exec")

    def python(self) -> ShellWord:
        return ShellWord(self._python)
