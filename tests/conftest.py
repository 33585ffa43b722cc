"""What every test gets without asking: a clean environment, and no real cluster by accident."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.database import DirectoryBasedExampleDatabase

# A shell that starts something in the background has it ignore Ctrl-C, as nohup does with HUP; hpcrun then
# minds neither, as it should. The tests play both.
for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")

pytest_plugins = ["tests.cluster.fixtures"]

# A deadline measures the machine, not the code. Its folder is named, since tests change theirs.
set_hypothesis_home_dir(ROOT / ".hypothesis")
hypothesis.settings.register_profile(
    "here", deadline=None, database=DirectoryBasedExampleDatabase(ROOT / ".hypothesis" / "examples")
)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True, database=None)
hypothesis.settings.load_profile("ci" if IN_CI else "here")

# What a surrounding job, environment, hook or terminal would leave behind.
_LEAKING = (
    *("SLURM_", "SBATCH_", "SRUN_", "SQUEUE_", "SACCT_", "SCANCEL_", "HPCRUN_", "PMI_", "PMIX_", "OMPI_"),
    *("GIT_", "CONDA_", "APPTAINER_", "SINGULARITY_", "LMOD_", "MODULE", "LOADEDMODULES", "CUDA_VISIBLE_"),
    *("VIRTUAL_ENV", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "BASH_ENV", "SSH_"),
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_", "TF_CONFIG"),
)

# Programs that reach other machines, or a scheduler: never started by a test that is not about them.
_FORBIDDEN = (
    *("sbatch", "srun", "salloc", "squeue", "sacct", "sacctmgr", "scancel", "scontrol", "sinfo"),
    *("ssh", "scp", "sftp"),
)


@pytest.fixture(scope="session")
def _runtime() -> Iterator[Path]:
    """A folder for sockets, whose paths must be short; what is open outside of the tests is elsewhere."""
    with tempfile.TemporaryDirectory(prefix="hr-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def _clean_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, _runtime: Path
) -> Iterator[None]:
    """An empty home, an empty working directory, umask 022, and nothing of the caller's settings."""
    for name in list(os.environ):
        if name.startswith(_LEAKING):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name, folder in (
        ("XDG_CONFIG_HOME", ".config"),
        ("XDG_DATA_HOME", ".local/share"),
        ("XDG_STATE_HOME", ".local/state"),
        ("XDG_CACHE_HOME", ".cache"),
    ):
        monkeypatch.setenv(name, str(home / folder))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(_runtime))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.chdir(tmp_path)
    umask = os.umask(0o022)
    yield
    os.umask(umask)


@pytest.fixture(scope="session")
def _tripwires(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of programs that note that they were called, and fail."""
    folder = tmp_path_factory.mktemp("tripwires")
    for name in _FORBIDDEN:
        program = folder / name
        program.write_text(
            f"#!/bin/sh\necho '{name}' \"$@\" >> '{folder}/called'\n"
            f"echo 'a real {name}, unasked: mark the test cluster, or put a fake on PATH' >&2\nexit 97\n"
        )
        program.chmod(0o755)
    return folder


@pytest.fixture(autouse=True)
def _no_real_cluster(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, _tripwires: Path
) -> Iterator[None]:
    """Fail a test that starts a scheduler's or SSH's programs without being marked ``cluster``."""
    called = _tripwires / "called"
    called.unlink(missing_ok=True)
    if request.node.get_closest_marker("cluster") is None:
        monkeypatch.setenv("PATH", f"{_tripwires}{os.pathsep}{os.environ['PATH']}")
    yield
    if called.exists():
        pytest.fail(f"started unasked:\n{called.read_text()}")


@pytest.fixture
def weird_tmp_path(tmp_path: Path) -> Path:
    """An empty folder whose name holds what shells, templates and SQL stumble over."""
    return _folder(tmp_path, 'it\'s a "weird" $HOME `dir`; \\n & päth — 雪')


@pytest.fixture
def newline_tmp_path(tmp_path: Path) -> Path:
    """The same, with a line break, which must be refused where it cannot be carried."""
    return _folder(tmp_path, "two\nlines of a 'path'")


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a cluster test that is skipped, say for lack of root, has failed; not one that needs a Debian
    which is still in the making, and cannot be installed today."""
    report = yield
    moving = "no root file system of sid can be built today" in str(report.longrepr)
    counts = IN_CI and not moving and item.get_closest_marker("cluster")
    if counts and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and in CI nothing may be: {report.longrepr}"
    return report
