"""An Apptainer image; every process starts in a container of its own.

Apptainer hands the caller's variables on, but for ``--cleanenv``; there, what hpcrun, Slurm, MPI and the
GPU libraries need is handed on by APPTAINERENV_ names, made at the start of each process, when the
scheduler has set them. Folders that the scheduler chooses for a process are bound then, too.
"""

from __future__ import annotations

from hpcrun.environments.base import Setting
from hpcrun.models.environment import Environment
from hpcrun.quoting import Safe, ShellText, ShellWord

_DRIVER = ShellText.trusted('"$(if [ -e /dev/kfd ]; then echo --rocm; else echo --nv; fi)"')
"""AMD's driver where there is one, NVIDIA's anywhere else: if it is missing, Apptainer says so."""


class ApptainerEnvironment:
    def __init__(self, environment: Environment, setting: Setting) -> None:
        assert environment.apptainer is not None
        self._section = environment.apptainer
        self._image = self._named(environment.apptainer.image or "")
        self._site = setting.site
        self._gpus = setting.gpus
        self._given = setting.given
        self._venv = environment.venv is not None
        self._python = environment.python.interpreter_path or ("python" if self._venv else "python3")

    def _named(self, image: str) -> Safe:
        if self._section.made:
            return ShellText.trusted('"$HPCRUN_ENVIRONMENT/image.sif"')
        # A name that begins with a dash would be taken for an option.
        return ShellWord(f"./{image}" if image.startswith("-") else image)

    def activate(self) -> ShellText:
        executable = ShellWord(self._site.apptainer.executable)
        there = ShellText(
            "command -v {} >/dev/null 2>&1 ||\n"
            '    hpcrun_fail_environment "there is no program" {} '
            '"on $(hostname): set apptainer.executable of the site"\n'
            '[ -e {} ] || hpcrun_fail_environment "there is no image" {} "on $(hostname)"',
            executable,
            executable,
            self._image,
            self._image,
        )
        if not self._venv:
            return there
        return ShellText(
            "{}\n"
            'export VIRTUAL_ENV="$HPCRUN_ENVIRONMENT/prefix"\n'
            'export APPTAINERENV_PREPEND_PATH="$VIRTUAL_ENV/bin"\n'
            'export SINGULARITYENV_PREPEND_PATH="$VIRTUAL_ENV/bin"\n'
            '{} --quiet exec {} {} "$VIRTUAL_ENV/bin/python" -c "" ||\n'
            '    hpcrun_fail_environment "the venv $VIRTUAL_ENV does not run in" {} "on $(hostname)"',
            there,
            executable,
            self._binds(),
            self._image,
            self._image,
        )

    def wrap(self) -> ShellText:
        words: list[Safe] = [
            ShellText("hpcrun_contain"),
            ShellWord(self._site.apptainer.executable),
            ShellText('--bind "$HPCRUN_RUN_DIR" --pwd "$PWD"'),
            *([self._binds()] if self._binds() else []),
        ]
        gpu = self._gpu_flag()
        if gpu:
            words.append(gpu)
        if self._section.clean_environment:
            words.append(ShellWord("--cleanenv"))
        words.append(self._image)
        return ShellText.join(" ", words)

    def _binds(self) -> ShellText:
        binds = [*self._site.apptainer.binds, *self._section.binds, *self._given]
        words: list[Safe] = [ShellText("--bind {}", ShellWord(bind)) for bind in binds]
        if self._venv:
            words.insert(0, ShellText.trusted('--bind "$HPCRUN_ENVIRONMENT"'))
        return ShellText.join(" ", words)

    def _gpu_flag(self) -> Safe | None:
        if self._section.gpu == "auto":
            return _DRIVER if self._gpus else None
        return {"nvidia": ShellWord("--nv"), "rocm": ShellWord("--rocm"), "none": None}[self._section.gpu]

    def python(self) -> ShellWord:
        return ShellWord(self._python)
