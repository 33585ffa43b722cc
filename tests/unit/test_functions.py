"""Python functions as runs, on this machine: what goes into the job, what comes of it, and what does not."""

from __future__ import annotations

import functools
import io
import json
import shutil
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcrun import (
    Experiment,
    FunctionRunConfig,
    Pipeline,
    PyTorchConfiguration,
    Run,
    ScriptRunConfig,
    Secret,
    Workspace,
)
from hpcrun.errors import (
    ConfigError,
    NotFoundError,
    RunCanceledError,
    RunError,
    RunFailedError,
    UsageError,
    WaitTimeoutError,
)
from hpcrun.functions.call import call_of, describe
from hpcrun.history.verify import verify
from hpcrun.shells.local import LocalShell
from tests.engine_help import PATIENCE, source, until, workspace

ROOT = Path(__file__).resolve().parent.parent.parent
MODULE = """
import os, pathlib

class Model:
    def __init__(self, weight):
        self.weight = weight
    def apply(self, x):
        return self.weight * x

def double(x, *, more=0):
    pathlib.Path("outputs/done.txt").write_text(str(x))
    return 2 * x + more

def where():
    return os.getcwd()
"""


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    with workspace(tmp_path / "ws") as made:
        monkeypatch.chdir(made.folder)
        yield made


@pytest.fixture
def src(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A source directory with a module that is importable here, as it is for a program that lies there."""
    folder = source(tmp_path / "src", ours_py=MODULE)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("ours", None)


def submit(ws: Workspace, src: Path, function: Callable[..., Any], *args: Any, **more: Any) -> Run:
    return Experiment(ws, "fn").submit(FunctionRunConfig(function, args, source_directory=src, **more))


def by_value(text: str, **names: Any) -> Callable[..., Any]:
    """A function ``f`` of no module, as one that is typed into an interpreter."""
    scope: dict[str, Any] = {"__name__": "__main__", **names}
    exec(text, scope)
    function: Callable[..., Any] = scope["f"]
    return function


def test_a_function_of_a_module_goes_by_name(ws: Workspace, src: Path) -> None:
    import ours  # type: ignore[import-not-found]

    run = submit(ws, src, ours.double, 21, kwargs={"more": 1})
    assert run.result(PATIENCE) == 43
    assert run.done() and run.type == "function"
    assert run.download_file("outputs/done.txt").read_text() == "21"
    assert run.record.config["yaml"].startswith(f"source_directory: {src}\nfunction:\n  name: ours.double\n")
    call = zipfile.ZipFile(io.BytesIO((run.folder / "function.pyz").read_bytes()))
    assert json.loads(call.read("call.json"))["code"] is False
    assert submit(ws, src, ours.where).result(PATIENCE) == str(Path(run.record.run_dir, "code")).replace(
        run.id, Run.get(ws, "@-1").id
    )


def test_methods_partials_lambdas_and_closures(ws: Workspace, src: Path) -> None:
    import ours

    factor = 7

    def closure(x: int) -> Callable[[int], int]:
        return lambda y: factor * x + y

    runs = [
        submit(ws, src, ours.Model(3).apply, 5),
        submit(ws, src, functools.partial(ours.double, more=2), 4),
        submit(ws, src, lambda x: [x, factor], (1, 2)),
        submit(ws, src, by_value("def g(x):\n    return x + 1\ndef f(x):\n    return g(x) * k", k=10), 1),
        submit(ws, src, ours.Model, 8),
    ]
    model = runs.pop()
    assert [run.result(PATIENCE) for run in runs] == [15, 10, [(1, 2), 7], 20]
    assert model.result().weight == 8 and isinstance(model.result(), ours.Model)
    deep = submit(ws, src, by_value("def f(x):\n    return lambda y: x * y"), 6)
    assert deep.result(PATIENCE)(7) == 42


def test_what_it_raises_is_raised_with_the_traceback(ws: Workspace, src: Path) -> None:
    failing = by_value("def f(x):\n    raise KeyError(f'no {x}')")
    run = submit(ws, src, failing, "such")
    with pytest.raises(KeyError, match="no such") as caught:
        run.result(PATIENCE)
    cause = caught.value.__cause__
    assert isinstance(cause, RunFailedError)
    assert "in f\n" in str(cause) and run.id in str(cause) and "runner" not in str(cause)
    assert "KeyError: 'no such'" in (run.folder / "user_logs/std_log.txt").read_text()
    assert run.get_status() == "Failed"
    assert run.explain()["cause"] == "ScriptError" and "The function failed" in run.explain()["words"]


def test_an_exception_that_cannot_be_made_anew_is_told_of(ws: Workspace, src: Path) -> None:
    text = "class Odd(Exception):\n    def __init__(self, a, b):\n        super().__init__(a + b)\n"
    run = submit(ws, src, by_value(text + "def f():\n    raise Odd('a', 'b')"))
    with pytest.raises(RunFailedError, match=r"the function raised __main__\.Odd in run .*: ab"):
        run.result(PATIENCE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "import threading\ndef f():\n    return threading.Lock()",
            "returned a _thread.lock, which cannot be",
        ),
        ("def f():\n    return b'x' * 3_000_000", "more than the 2097152 that max_result_size allows"),
        ("def f():\n    exit(0)", "ended well, but rank 0 left no result"),
        ("def f():\n    exit(3)", r"failed \(BadExit\): "),
        ("import os\ndef f():\n    os.kill(os.getpid(), 9)", r"failed \(Signal\): "),
    ],
)
def test_ends_without_a_result(ws: Workspace, src: Path, text: str, words: str) -> None:
    run = submit(ws, src, by_value(text), max_result_size="2M")
    with pytest.raises(RunFailedError, match=words) as caught:
        run.result(PATIENCE)
    assert run.id in str(caught.value)
    if "returned" in words or "max_result" in words:
        assert run.explain()["cause"] == "Function"
        assert words.replace("\\", "") in run.explain()["words"]


def test_a_module_that_is_not_there(ws: Workspace, src: Path, tmp_path: Path) -> None:
    import ours

    other = source(tmp_path / "other", a_txt="")
    run = submit(ws, other, ours.double, 1)
    words = "the call cannot be unpickled here: ModuleNotFoundError: No module named 'ours'"
    with pytest.raises(RunFailedError, match=words):
        run.result(PATIENCE)
    assert run.explain()["cause"] == "MissingModule"


def test_a_module_in_a_folder_of_the_source(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a program imports that lies beside it, below the source directory."""
    source(tmp_path / "top/lib", beside_py="def f():\n    return 'beside'\n")
    monkeypatch.syspath_prepend(str(tmp_path / "top/lib"))
    import beside  # type: ignore[import-not-found]

    assert submit(ws, tmp_path / "top", beside.f).result(PATIENCE) == "beside"
    sys.modules.pop("beside")


def test_another_python_is_refused_for_code_and_not_for_names(ws: Workspace, src: Path) -> None:
    """The call says that another Python pickled it: a second one is not to be had on every machine."""
    import ours

    code = FunctionRunConfig(by_value("def f():\n    return 1"), source_directory=src)
    name = FunctionRunConfig(ours.double, (2,), source_directory=src)
    for config in (code, name):
        _pretend(config, "3.1")
    run = Experiment(ws, "fn").submit(code)
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    with pytest.raises(RunFailedError, match=rf"was pickled by Python 3\.1, and the environment has {here}"):
        run.result(PATIENCE)
    assert "pickled by Python 3.1" in run.explain()["words"]
    assert Experiment(ws, "fn").submit(name).result(PATIENCE) == 4


def _pretend(config: FunctionRunConfig, python: str) -> None:
    import hashlib

    stream = io.BytesIO()
    assert config._call is not None and config.function is not None
    with zipfile.ZipFile(io.BytesIO(config._call)) as old, zipfile.ZipFile(stream, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "call.json":
                data = json.dumps({**json.loads(data), "python": python}).encode()
            new.writestr(name, data)
    config._call = stream.getvalue()
    config.function.digest = hashlib.sha256(config._call).hexdigest()


def test_every_rank_calls_it(ws: Workspace, src: Path) -> None:
    text = "import os\ndef f(x):\n    return x * int(os.environ['RANK'])"
    distributed = PyTorchConfiguration("gloo", process_count=3)
    run = submit(ws, src, by_value(text), 10, distributed_job_config=distributed)
    assert run.results(PATIENCE) == [0, 10, 20]
    assert run.result() == 0
    text = "import os\ndef f():\n    assert os.environ['RANK'] != '2', 'two'"
    run = submit(ws, src, by_value(text), distributed_job_config=distributed)
    with pytest.raises(AssertionError, match="two") as caught:
        run.result(PATIENCE)
    assert "on rank 2" in str(caught.value.__cause__)


def test_rerun_calls_the_same_again(ws: Workspace, src: Path) -> None:
    import ours

    first = submit(ws, src, ours.double, 4)
    assert first.result(PATIENCE) == 8
    (src / "ours.py").write_text(MODULE.replace("2 * x", "3 * x"))
    assert first.rerun().result(PATIENCE) == 8
    assert first.rerun(fresh=True).result(PATIENCE) == 12
    told = LocalShell().run(
        [sys.executable, "-m", "hpcrun", "rerun", first.id, "--wait", "--json"], timeout=60
    )
    told.check()
    assert Run.get(ws, json.loads(told.stdout)["id"]).result() == 8
    (first.folder / "function.pyz").write_bytes(b"something else")
    with pytest.raises(NotFoundError, match="is not what it was"):
        first.rerun()
    (first.folder / "function.pyz").unlink()
    with pytest.raises(NotFoundError, match="cannot be read"):
        first.rerun()
    (found,) = verify(ws.history.paths).findings
    assert found.where == first.id and "function.pyz is gone" in found.message


def test_no_argument_is_shown_and_files_are_private(ws: Workspace, src: Path) -> None:
    run = submit(ws, src, by_value("def f(x, token):\n    return len(token)"), [1], "s3cr3t-t0ken")
    assert run.result(PATIENCE) == 12
    told = run.record.config["yaml"]
    assert "arguments:\n  - list\n  - str\n" in told and "s3cr3t" not in told
    for path in run.folder.rglob("*"):
        if path.is_file() and path.suffix not in (".pyz", ".pkl"):
            assert b"s3cr3t-t0ken" not in path.read_bytes(), path
    assert b"s3cr3t-t0ken" not in ws.history.paths.database.read_bytes()
    for path in (run.folder / "function.pyz", run.folder / "results/rank_0.pkl"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_result_that_is_not_whole_is_not_unpickled(ws: Workspace, src: Path, tmp_path: Path) -> None:
    run = submit(ws, src, by_value("def f():\n    return list(range(100))"))
    run.result(PATIENCE)
    path = run.folder / "results/rank_0.pkl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    with pytest.raises(RunError, match="it is not whole"):
        run.result()
    path.unlink()
    (tmp_path / "elsewhere").write_bytes(whole)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="cannot be read"):
        run.result()


def test_waiting_and_canceling(ws: Workspace, src: Path) -> None:
    run = submit(ws, src, time.sleep, 600)
    with pytest.raises(WaitTimeoutError):
        run.result(0.05)
    assert not run.done()
    until(lambda: run.get_status() == "Running")
    run.cancel()
    with pytest.raises(RunCanceledError):
        run.result(PATIENCE)
    script = Experiment(ws, "fn").submit(ScriptRunConfig(src, command="true"))
    with pytest.raises(UsageError, match="runs no function"):
        script.result()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((42,), "int is no function"),
        ((len, "ab"), "args is a tuple of all arguments, and not a str"),
        ((len, (), {1: 2}), "kwargs are names and values"),
        ((lambda x: x, (1, 2)), "cannot be called so: too many positional arguments"),
        ((lambda x: x, (threading.Lock(),)), "cannot be pickled: TypeError: cannot pickle '_thread.lock'"),
        ((lambda x: x, (Secret("s3cr3t"),)), "a Secret cannot be pickled"),
    ],
)
def test_calls_that_cannot_be_made(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        FunctionRunConfig(*arguments)
    assert "s3cr3t" not in str(caught.value)


def test_what_is_only_told_of_is_not_submitted(ws: Workspace, src: Path) -> None:
    """The configuration of a run, as a file, has no call in it."""
    config = FunctionRunConfig(len, ("abc",), source_directory=src)
    assert call_of(config) is not None and call_of(ScriptRunConfig(src, "a.py")) is None
    config._call = None
    with pytest.raises(ConfigError, match=r"builtins\.len is only told of here"):
        Experiment(ws, "fn").submit(config)
    assert not ws.runs()
    assert describe(functools.partial(functools.partial(len))) == "builtins.len"


def test_map_is_many_runs_of_one_snapshot(ws: Workspace, src: Path) -> None:
    import ours

    experiment = Experiment(ws, "fn")
    runs = experiment.map(ours.double, range(5), source_directory=src, kwargs={"more": 1}, tags={"a": "b"})
    assert [run.result(PATIENCE) for run in runs] == [1, 3, 5, 7, 9]
    assert len({run.get_snapshot_id() for run in runs}) == 1
    assert [run.properties["map_index"] for run in runs] == list("01234")
    assert {run.properties["map"] for run in runs} == {runs[0].id} and runs[3].tags == {"a": "b"}
    assert experiment.map(ours.double, [], source_directory=src) == []
    for bad in ((), ([1], [1, 2])):
        with pytest.raises(UsageError):
            experiment.map(ours.double, *bad, source_directory=src)
    with pytest.raises(UsageError, match="1 at least"):
        experiment.map(ours.double, [1], source_directory=src, max_concurrent=0)
    assert len(ws.runs()) == 5


def test_the_example(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples/functions", tmp_path / "functions")
    argv = [sys.executable, "run.py"]
    told = LocalShell().run(argv, timeout=120, cwd=tmp_path / "functions", env={"PYTHONPATH": str(ROOT)})
    assert told.ok and told.stdout.startswith("pi is about 3.14"), told.describe()


def test_a_function_is_a_step_of_a_pipeline(ws: Workspace, src: Path) -> None:
    """Its outputs are another step's inputs, and its result is its own."""
    import ours

    steps = {
        "first": FunctionRunConfig(ours.double, (8,), source_directory=src),
        "then": ScriptRunConfig(
            src,
            command='test "$(cat "$HPCRUN_INPUT_TEXT")" = 8',
            inputs={"text": "steps.first/outputs/done.txt"},
        ),
    }
    run = Experiment(ws, "fn").submit(Pipeline(steps))
    run.wait_for_completion(timeout=PATIENCE)
    first = next(child for child in run.get_children() if child.type == "function")
    assert first.result() == 16
