"""hpcrun.tracking, as a script uses it: with real signals, and with hpcrun in the environment or without."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcrun import tracking
from hpcrun.places import lib, stand_in


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HPCRUN_PREEMPT_SIGNAL", "USR2")
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGUSR1)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


def send(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


def test_it_is_called_once_in_the_main_thread() -> None:
    seen: list[threading.Thread] = []
    with tracking.on_preempt(lambda: seen.append(threading.current_thread())) as told:
        assert not told.called
        send(signal.SIGUSR2, signal.SIGTERM, signal.SIGUSR2)
        assert told.called
    assert seen == [threading.main_thread()]


def test_without_a_callback_it_is_looked_at() -> None:
    with tracking.on_preempt() as told:
        send(signal.SIGTERM)
        assert told.called


def test_it_is_undone_cleanly() -> None:
    """And twice does no harm; what was set meanwhile by others stays."""
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        told = tracking.on_preempt()
        other = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        told.close()
        told.close()
        assert signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN
        send(signal.SIGTERM)
        assert heard == [signal.SIGTERM] and not told.called
        assert other != signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)


def test_what_the_callback_raises_is_the_scripts() -> None:
    def save() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit), tracking.on_preempt(save):
        send(signal.SIGUSR2)


@pytest.mark.parametrize("given", ["", "USR1", "KILL", "x"])
def test_it_listens_to_the_signal_of_the_run(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPCRUN_PREEMPT_SIGNAL", given)
    with tracking.on_preempt() as told:
        assert (signal.getsignal(signal.SIGUSR1) == told._heard) is (given == "USR1")
        assert signal.getsignal(signal.SIGTERM) == told._heard


def test_another_thread_is_refused() -> None:
    errors: list[str] = []

    def work() -> None:
        try:
            tracking.on_preempt()
        except ValueError as error:
            errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == ["on_preempt must be called in the main thread, which alone can take signals"]


@pytest.mark.parametrize(("attempt", "count"), [("1", 0), ("3", 2), (None, 0), ("x", 0), ("-4", 0)])
def test_restarts_are_counted(attempt: str | None, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HPCRUN_ATTEMPT", raising=False)
    if attempt is not None:
        monkeypatch.setenv("HPCRUN_ATTEMPT", attempt)
    assert tracking.restart_count() == count


# What a run brings along.


@pytest.fixture
def brought(tmp_path: Path) -> Path:
    for name, text in lib.files().items():
        path = tmp_path / lib.FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / lib.FOLDER


def said(code: str, *path: Path, site: bool = False) -> str:
    """What Python without any site-packages says, or with those of an environment."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(map(str, path))}
    argv = [sys.executable, *([] if site else ["-S"]), "-c", code]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


WHERE = "from hpcrun import tracking; import hpcrun.tracking as t; assert t is tracking; print(t.__file__)"


def test_an_environment_without_hpcrun_has_the_copy(brought: Path) -> None:
    assert said(WHERE, brought) == str(brought / "hpcrun/tracking.py")
    assert said(f"{WHERE}; print(tracking.restart_count())", brought).endswith("0")


def test_an_environment_with_hpcrun_has_its_own(brought: Path, tmp_path: Path) -> None:
    """Wherever it comes from: a folder that is later in the path, or the environment itself."""
    real = tmp_path / "real" / "hpcrun"
    real.mkdir(parents=True)
    (real / "__init__.py").write_text("mine = True\n")
    (real / "tracking.py").write_text("")
    assert said(WHERE, brought, tmp_path / "real") == str(real / "tracking.py")
    assert said("import hpcrun; print(hpcrun.mine)", brought, tmp_path / "real") == "True"
    assert (
        said("import hpcrun; print(hpcrun.ScriptRunConfig.__name__)", brought, site=True) == "ScriptRunConfig"
    )


def test_a_folder_that_only_has_the_name_is_none(brought: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "hpcrun").mkdir(parents=True)
    assert said(WHERE, brought, tmp_path / "elsewhere") == str(brought / "hpcrun/tracking.py")


def test_what_is_brought_along_needs_nothing_else() -> None:
    """And is understood by Python 3.8."""
    import ast

    brought = {name[: -len(".py")].replace("/", ".") for name in lib.files()} | {"hpcrun"}
    for text in lib.files().values():
        tree = ast.parse(text, feature_version=(3, 8))
        names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
        parts = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        names |= {node.module or "" for node in parts}
        names |= {f"hpcrun.{a.name}" for node in parts if node.module == "hpcrun" for a in node.names}
        assert {name for name in names if name.startswith("hpcrun")} <= brought
        others = {name.partition(".")[0] for name in names - brought}
        assert others <= sys.stdlib_module_names | {"__future__"}
        assert "from __future__ import annotations" in text
    assert callable(stand_in.make_way)
