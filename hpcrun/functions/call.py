"""A call, pickled: one zip file that the environment's Python runs, whatever else is in that environment.

It holds the call, the program that makes it (:mod:`hpcrun.functions.runner`) and cloudpickle as it is here,
which is pure Python: so nothing has to be installed there, and both ends speak of the same version of it.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from hpcrun.errors import ConfigError, NotFoundError, Problem
from hpcrun.models.function import FunctionSection
from hpcrun.models.run import ScriptRunConfig

_SHOWN = 20
_LARGEST = 512
"""MiB of a pickled result, where nothing else is said."""
_WHEN = (1980, 1, 1, 0, 0, 0)
"""The same call is the same file, whenever it is pickled."""


def describe(function: Callable[..., Any]) -> str:
    """The function's name, with its module."""
    inner: Any = function
    while isinstance(inner, partial):
        inner = inner.func
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    module = getattr(inner, "__module__", None) or type(inner).__module__
    return "".join(c if c.isprintable() else "?" for c in f"{module}.{name}")[:500]


def pack(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    keywords: Mapping[str, Any],
    source: str,
    max_result_size: object = None,
) -> tuple[FunctionSection, bytes]:
    """What may be known of a call, and the call itself. Raises ConfigError."""
    name = _checked(function, arguments, keywords)
    data = _pickled(name, (function, tuple(arguments), dict(keywords)))
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    given: dict[str, Any] = {} if max_result_size is None else {"max_result_size": max_result_size}
    types = [_type(value) for value in arguments]
    types += [f"{key}={_type(value)}" for key, value in keywords.items()]
    if len(types) > _SHOWN:
        types = [*types[:_SHOWN], f"and {len(types) - _SHOWN} more"]
    section = FunctionSection(name=name, arguments=types, python=python, digest="0" * 64, **given)
    call = {
        "name": name,
        "python": python,
        # Only then does the pickle hold code, rather than names of modules that are there as well.
        "code": b"cloudpickle.cloudpickle" in data,
        "limit": int(section.max_result_size or _LARGEST) * 2**20,
        "paths": _paths(Path(source)),
    }
    text = _packed(call, data)
    return section.model_copy(update={"digest": hashlib.sha256(text).hexdigest()}), text


def _checked(function: Callable[..., Any], arguments: Sequence[Any], keywords: Mapping[str, Any]) -> str:
    if not callable(function):
        raise _wrong(f"{_type(function)} is no function: it cannot be called", "Give the function itself.")
    name = describe(function)
    if not isinstance(arguments, (tuple, list)):
        raise _wrong(f"args is a tuple of all arguments, and not a {_type(arguments)}", "args=(1,) has one.")
    if not isinstance(keywords, Mapping) or not all(isinstance(key, str) for key in keywords):
        raise _wrong("kwargs are names and values", 'kwargs={"seed": 1}')
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise _wrong(f"{name} is asynchronous", "Give a function that runs it: asyncio.run(…).")
    try:
        inspect.signature(function).bind(*arguments, **keywords)
    except TypeError as error:
        raise _wrong(f"{name} cannot be called so: {error}", "See args and kwargs.") from None
    except ValueError:
        pass  # a built-in that does not tell
    return name


def _wrong(message: str, hint: str) -> ConfigError:
    return ConfigError([Problem(message, where="Python", path="function", hint=hint)])


def _type(value: object) -> str:
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return name[:200]


def _pickled(name: str, call: tuple[Any, ...]) -> bytes:
    from submitit.core.utils import cloudpickle_dump

    with tempfile.TemporaryDirectory(prefix="hpcrun-") as folder:
        place = Path(folder) / "call.pkl"
        try:
            cloudpickle_dump(call, place)
        except OSError as error:
            raise _wrong(f"{name} cannot be pickled: {error}", "") from None
        except Exception as error:
            raise _wrong(
                f"{name} or an argument of it cannot be pickled: {type(error).__name__}: {error}",
                "Pass plain values, and let the function open its files, locks and connections itself.",
            ) from None
        return place.read_bytes()


def _paths(source: Path) -> list[str]:
    """Folders below the source directory in which modules are found here: they are there as well."""
    top = source.resolve()
    found = []
    for entry in sys.path:
        path = Path(entry or ".").resolve()
        if top in path.parents and "site-packages" not in path.parts:
            found.append(os.fspath(path.relative_to(top)))
    return found


def _packed(call: Mapping[str, Any], data: bytes) -> bytes:
    stream = io.BytesIO(_program())
    with zipfile.ZipFile(stream, "a") as file:
        _put(file, "call.json", json.dumps(call).encode("ascii"))
        _put(file, "call.pkl", data)
    return stream.getvalue()


@cache
def _program() -> bytes:
    """The part of the file that is the same for all calls."""
    import cloudpickle

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        _put(file, "__main__.py", Path(__file__).with_name("runner.py").read_bytes())
        for path in sorted(Path(cloudpickle.__file__).parent.glob("*.py")):
            _put(file, f"cloudpickle/{path.name}", path.read_bytes())
    return stream.getvalue()


def _put(file: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _WHEN)
    info.external_attr = 0o600 << 16
    file.writestr(info, data, zipfile.ZIP_DEFLATED, compresslevel=6 if len(data) < 1 << 22 else 1)


def call_of(config: ScriptRunConfig) -> bytes | None:
    """The pickled call of a configuration, None for one without a function. Raises ConfigError where the
    configuration only tells of one."""
    if config.function is None:
        return None
    call = config._call
    if call is None or hashlib.sha256(call).hexdigest() != config.function.digest:
        raise _wrong(
            f"{config.function.name} is only told of here: the call itself is not in a file",
            "Make one in Python, FunctionRunConfig(function, args), or repeat a run: hpcrun rerun RUN.",
        )
    return call


def recall(config: ScriptRunConfig, path: Path) -> ScriptRunConfig:
    """A configuration that was read, with the call that was kept with its run. Raises NotFoundError."""
    if config.function is not None:
        try:
            config._call = path.read_bytes()
        except OSError as error:
            raise NotFoundError(f"the pickled call {path} cannot be read: {error.strerror}") from error
        if hashlib.sha256(config._call).hexdigest() != config.function.digest:
            raise NotFoundError(f"the pickled call {path} is not what it was")
    return config
