"""What this machine's files tell of a run to come: its script, its environment, its programs."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from hpcrun.check.findings import Findings, Level
from hpcrun.check.limits import Asked
from hpcrun.check.scripts import Fault, bash_fault, crlf, first_word, interpreter, python_fault
from hpcrun.config.tree import Path as Key
from hpcrun.config.words import nearest
from hpcrun.errors import CommandError
from hpcrun.models.environment import CondaSection, Environment
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site
from hpcrun.places.near import conda_root, current_python
from hpcrun.shells.base import Shell

BASH_TIMEOUT = 20.0

# What stands below these may be another on each machine; all else is taken for shared.
_OF_EACH_MACHINE = ("/usr/", "/bin/", "/sbin/", "/opt/", "/tmp/", "/var/")


def check_script(found: Findings, config: ScriptRunConfig, shell: Shell) -> None:
    """The script, or the file that a command begins with: there, readable, runnable, of sound syntax."""
    if config.function is not None:
        return
    if config.script is None:
        assert config.command is not None
        if isinstance(config.command, str):
            _bash_source(found, config.command.encode("utf-8", "surrogateescape"), "command", shell)
        _program(found, first_word(config.command), "command", config)
        return
    source = _read(found, Path(config.source_directory) / config.script, config.script)
    if source is None:
        return
    if config.script.endswith(".py"):
        _python_source(found, source, config)
    elif config.script.endswith(".sh"):
        _crlf(found, source, config.script, "script")
        _bash_source(found, source, config.script, shell)
    else:
        _executable(found, config.script, "script", Path(config.source_directory), source)


def _read(found: Findings, path: Path, name: str) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError as error:
        hint = f"Make it readable: chmod u+r {name}"
        found.add("problem", "Script", f"{name} cannot be read: {error.strerror}", ("script",), next=hint)
        return None


def _python_source(found: Findings, source: bytes, config: ScriptRunConfig) -> None:
    fault = python_fault(source)
    if fault is None:
        return
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if _runs_with_this_python(config.environment):
        _syntax(found, fault, config.script or "", "script")
    else:
        more = f" (with Python {here} here; the run's own may differ)"
        _syntax(found, fault, config.script or "", "script", level="warning", more=more)


def _runs_with_this_python(environment: Environment) -> bool:
    if environment.kind != "system":
        return False
    named = shutil.which(environment.python.interpreter_path or current_python())
    return named is not None and os.path.realpath(named) == os.path.realpath(sys.executable)


def _bash_source(found: Findings, source: bytes, name: str, shell: Shell) -> None:
    try:
        result = shell.run(["bash", "-n"], timeout=BASH_TIMEOUT, stdin=source, env={"LC_ALL": "C"})
    except CommandError:
        return  # without bash nothing runs at all: check_machine tells
    if result.rc:
        fault = bash_fault(result.stderr, source) or Fault(
            0, (result.stderr.strip() or "bash refuses it")[:300]
        )
        _syntax(found, fault, name, "command" if name == "command" else "script")


def _syntax(
    found: Findings, fault: Fault, name: str, key: str, *, level: Level = "problem", more: str = ""
) -> None:
    place = f"{name}:{fault.line}" if fault.line else name
    details = (fault.text,) if fault.text else ()
    found.add(level, "Syntax", f"{place}: {fault.message}{more}", (key,), details=details)


def _program(found: Findings, word: str, key: str, config: ScriptRunConfig) -> None:
    """The first word of a command, where it is meant to be a file of the source."""
    source = Path(config.source_directory)
    if not word or word.startswith("/"):
        return
    path = source / word
    if "/" not in word:
        if path.is_file() and shutil.which(word) is None:
            message = f"{word} is looked for on PATH, where it is not; there is one in the source"
            found.add("warning", "Script", message, (key,), next=f"Write ./{word}")
        return
    if not path.is_file():
        if not path.exists():
            built = config.environment.setup is not None  # which may compile it
            level: Level = "warning" if built else "problem"
            found.add(level, "Script", f"there is no {word} in {source}", (key,))
        return
    try:
        content = path.read_bytes()
    except OSError as error:
        found.add("problem", "Script", f"{word} cannot be read: {error.strerror}", (key,))
        return
    _executable(found, word, key, source, content)


def _executable(found: Findings, name: str, key: str, source: Path, content: bytes) -> None:
    if not (source / name).stat().st_mode & 0o111:
        hint = f"chmod +x {name}"
        found.add("problem", "Script", f"{name} is not executable", (key,), next=hint)
    program = interpreter(content)
    if program is None:
        message = f"{name} has no #! line: whether it runs, and by what, is left to chance"
        found.add("warning", "Script", message, (key,), next="Begin it with a line such as #!/bin/bash")
    elif program:
        _crlf(found, content, name, key)


def _crlf(found: Findings, content: bytes, name: str, key: str) -> None:
    if crlf(content):
        message = f"{name} has Windows line ends (CRLF): the carriage returns are taken for part of its words"
        found.add("problem", "Script", message, (key,), next=f"Take them away: sed -i 's/\\r$//' {name}")


def check_environment(found: Findings, config: ScriptRunConfig, site: Site) -> None:
    """Whether the environment is there; for targets whose files are this machine's alone."""
    environment = config.environment
    if environment.conda is not None:
        _conda(found, environment.conda, site)
    elif environment.apptainer is not None:
        _apptainer(found, config, site)
    elif environment.python.interpreter_path is not None:
        key = ("environment", "python", "interpreter_path")
        _there(found, environment.python.interpreter_path, "interpreter", key, config, site)
    modules = [*site.modules, *environment.modules]
    if modules:
        message = f"modules are not looked for: {', '.join(modules)}"
        found.add("note", "Unchecked", message, next=f"module avail {modules[0]}")


def _conda(found: Findings, conda: CondaSection, site: Site) -> None:
    root = site.conda.root or conda_root()
    if conda.prefix is not None:
        if not Path(conda.prefix, "conda-meta").is_dir():
            message = f"there is no conda environment at {conda.prefix}"
            found.add("problem", "Environment", message, ("environment", "conda", "prefix"))
        return
    if root is None or conda.name is None:
        return  # where conda lies is asked for when the script is rendered
    key = ("environment", "conda", "name")
    if not Path(root).is_dir():
        found.add(
            "problem", "Environment", f"there is no conda at {root}", key, next="See conda.root of the site."
        )
        return
    names = _conda_names(Path(root))
    if conda.name in names or conda.name == "base":
        return
    close = nearest(conda.name, names)
    hint = f"did you mean {close}?" if close else f"There are: {', '.join(['base', *sorted(names)])}"
    # Which folders hold environments is conda's configuration: only these usual ones are looked at.
    level: Level = "warning" if Path("~/.condarc").expanduser().exists() else "problem"
    found.add(level, "Environment", f"conda at {root} has no environment {conda.name}", key, next=hint)


def _conda_names(root: Path) -> set[str]:
    folders = [root / "envs", Path("~/.conda/envs").expanduser()]
    for variable in ("CONDA_ENVS_PATH", "CONDA_ENVS_DIRS"):
        folders += [Path(folder) for folder in os.environ.get(variable, "").split(os.pathsep) if folder]
    return {meta.parent.name for folder in folders for meta in folder.glob("*/conda-meta")}


def _apptainer(found: Findings, config: ScriptRunConfig, site: Site) -> None:
    section = config.environment.apptainer
    assert section is not None
    _there(found, site.apptainer.executable, "program", ("environment", "apptainer"), config, site)
    if section.image is None or section.made:
        return
    # The job looks for it from its own copy of the source.
    path = Path(config.source_directory) / section.image
    key = ("environment", "apptainer", "image")
    if not path.exists():
        found.add(
            "problem",
            "Environment",
            f"there is no image {section.image}",
            key,
            next="Name a SIF file or a sandbox folder.",
        )
    elif not os.access(path, os.R_OK):
        message = f"the image {section.image} cannot be read"
        found.add("problem", "Environment", message, key, next=f"Make it readable: chmod u+r {section.image}")


def _there(found: Findings, program: str, what: str, key: Key, config: ScriptRunConfig, site: Site) -> None:
    """A program, by path or by name. What modules or set-up lines may bring along is not looked for."""
    brought = config.environment.modules or config.environment.setup or site.modules or site.setup
    if shutil.which(program) or (brought and "/" not in program):
        return
    exists = "/" in program and Path(program).exists()
    message = f"{program} is not executable" if exists else f"there is no {what} {program} here"
    local = site.scheduler.type == "local"
    of_each = "/" not in program or program.startswith(_OF_EACH_MACHINE)
    if of_each and not local:
        found.add("warning", "Environment", f"{message}; compute nodes may have it", key)
    else:
        found.add("problem", "Environment", message, key)


def check_machine(found: Findings, asked: Asked | None, config: ScriptRunConfig, site: Site) -> None:
    """Whether this machine can run it, for a local target."""
    kind = config.distributed_job_config.type if config.distributed_job_config else "single"
    if shutil.which("bash") is None:
        found.add("problem", "Program", "there is no bash on this machine, which runs the job's script")
    if kind == "mpi" and shutil.which("mpirun") is None:
        hint = "Install an MPI, or submit to a cluster with -t TARGET."
        message = "there is no mpirun on this machine"
        found.add("problem", "Program", message, ("distributed_job_config",), next=hint)
    if asked is None:
        return
    cpus = site.scheduler.max_running or len(os.sched_getaffinity(0))
    if asked.cpus > cpus:
        message = f"{asked.cpus} CPUs are more than the {cpus} that runs may use here: it gets those, alone"
        found.add(
            "warning", "CPUs", message, asked.keys["CPUs"], next="Ask for less, or submit to a cluster."
        )
    gpus = _gpus_here()
    if gpus is not None and asked.gpus > gpus:
        have = f"{gpus} of them" if gpus else "none"
        message = f"GPUs asked for: {asked.gpus}; this machine has {have}"
        found.add("warning", "GPUs", message, asked.keys["GPUs"], next="Submit to a cluster with -t TARGET.")


def _gpus_here(devices: Path = Path("/dev")) -> int | None:
    """How many NVIDIA GPUs this machine shows; None where it has others, which are not counted."""
    if (devices / "kfd").exists() or (devices / "dxg").exists():
        return None
    return len(list(devices.glob("nvidia[0-9]*")))


def git_is_here(found: Findings) -> bool:
    """Whether git is here, without which there is no snapshot."""
    if shutil.which("git") is not None:
        return True
    hint = "Install git 2.25 or newer, or load the site's module for it."
    found.add("problem", "Program", "there is no git on this machine, which takes the snapshot", next=hint)
    return False
