"""An existing Apptainer image; every process starts in a container of its own.

Apptainer hands the caller's variables on, but for ``--cleanenv``; there, what hpcrun, Slurm, MPI and the
GPU libraries need is handed on by APPTAINERENV_ names, made at the start of each process, when the
scheduler has set them.
"""

from __future__ import annotations

from hpcrun.environments.base import Setting
from hpcrun.models.environment import Environment
from hpcrun.quoting import Safe, ShellText, ShellWord


class ApptainerEnvironment:
    def __init__(self, environment: Environment, setting: Setting) -> None:
        assert environment.apptainer is not None
        self._section = environment.apptainer
        # A name that begins with a dash would be taken for an option.
        image = self._section.image
        self._image = ShellWord(f"./{image}" if image.startswith("-") else image)
        self._site = setting.site
        self._gpus = setting.gpus
        self._given = setting.given
        self._python = environment.python.interpreter_path or "python3"

    def activate(self) -> ShellText:
        executable = ShellWord(self._site.apptainer.executable)
        return ShellText(
            "command -v {} >/dev/null 2>&1 ||\n"
            '    hpcrun_fail_environment "there is no program" {} '
            '"on $(hostname): set apptainer.executable of the site"\n'
            '[ -e {} ] || hpcrun_fail_environment "there is no image" {} "on $(hostname)"',
            executable,
            executable,
            self._image,
            self._image,
        )

    def wrap(self) -> ShellText:
        words: list[Safe] = [
            ShellText("hpcrun_hand_on" if self._section.clean_environment else "exec"),
            ShellWord(self._site.apptainer.executable),
            ShellWord("--quiet"),  # what it would tell of itself is no part of the user's log
            ShellWord("exec"),
            ShellText('--bind "$HPCRUN_RUN_DIR" --pwd "$PWD"'),
        ]
        for bind in [*self._site.apptainer.binds, *self._section.binds, *self._given]:
            words += [ShellWord("--bind"), ShellWord(bind)]
        gpu = self._gpu_flag()
        if gpu:
            words.append(ShellWord(gpu))
        if self._section.clean_environment:
            words.append(ShellWord("--cleanenv"))
        words.append(self._image)
        return ShellText.join(" ", words)

    def _gpu_flag(self) -> str | None:
        if self._section.gpu == "auto":
            return "--nv" if self._gpus else None
        return {"nvidia": "--nv", "rocm": "--rocm", "none": None}[self._section.gpu]

    def python(self) -> ShellWord:
        return ShellWord(self._python)
