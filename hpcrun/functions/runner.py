"""What the processes of a run start in a function's stead: it makes the pickled call, and keeps the result.

A program of its own, with the standard library alone: it travels as ``__main__.py`` of a zip file that also
holds the call and cloudpickle, and is run by the environment's Python. That may be any from 3.6 on, if only
to be told that it is not the one that is needed: so nothing newer is used here.

A result is a file: one line of JSON, which says what follows, then the pickle, whole or not there at all.
"""

import hashlib
import json
import os
import pickle
import sys
import traceback
import zipfile
from pathlib import Path
from typing import Any

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


class Trouble(Exception):
    """What hpcrun itself has to say, in its own words."""


class Result:
    """The file that tells how the call of one process ended."""

    def __init__(self, folder: Path, rank: int, limit: int) -> None:
        self.path = folder / f"rank_{rank}.pkl"
        self.limit = limit
        folder.mkdir(mode=0o700, exist_ok=True)
        if os.path.lexists(self.path):  # of an earlier attempt
            self.path.unlink()

    def put(self, kind: str, data: bytes, **more: Any) -> None:
        """Write it, for its owner alone, under a name of its own first."""
        head = {
            "version": 1,
            "kind": kind,
            "python": HERE,
            "bytes": len(data),
            "digest": hashlib.sha256(data).hexdigest(),
            **more,
        }
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            with os.fdopen(os.open(str(temporary), flags, 0o600), "wb") as file:
                file.write(json.dumps(head).encode("ascii") + b"\n")
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        finally:
            if temporary.exists():
                temporary.unlink()


def needed(call: Any) -> None:
    """Say so, where the call cannot be made by this Python: code is pickled as one minor version has it."""
    if call["code"] and call["python"] != HERE:
        raise Trouble(
            f"the function was pickled by Python {call['python']}, and the environment has {HERE} "
            f"({sys.executable}): code is not carried from one to the other. Submit with the environment's "
            "Python, or put the function into a module of the source directory: then its name is enough"
        )


def load(data: bytes) -> Any:
    """The function, its arguments and its keyword arguments."""
    try:
        return pickle.loads(data)  # noqa: S301 (what the run's owner pickled)
    except Exception as error:
        traceback.print_exc()
        hint = ""
        if isinstance(error, ImportError):
            hint = ". Modules are looked for in the source directory and in the environment"
        what = f"{type(error).__name__}: {error}{hint}"
        raise Trouble(f"the call cannot be unpickled here: {what}") from None


def dump(value: Any) -> bytes:
    """A pickle that also holds what is defined in no module that is there at home."""
    try:
        import cloudpickle
    except Exception:  # one that is brought along may be too new for this Python
        return pickle.dumps(value, protocol=4)
    return bytes(cloudpickle.dumps(value, protocol=4))


def keep(result: Result, value: Any) -> None:
    """Keep what the function returned."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    try:
        data = dump(value)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise Trouble(f"the function returned a {kind}, which cannot be pickled: {what}") from None
    if len(data) > result.limit:
        raise Trouble(
            f"the result, a {kind}, takes {len(data)} bytes, more than the {result.limit} that "
            "max_result_size allows: write it to outputs/, and return its name"
        )
    result.put("result", data, type=kind)


def keep_error(result: Result, error: Exception, shown: str) -> None:
    """Keep what the function raised; where it cannot be pickled, its name and its traceback."""
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    try:
        error.__traceback__ = error.__cause__ = error.__context__ = None
        data = dump(error)
        pickle.loads(data)  # noqa: S301 - many an exception is pickled, and then cannot be made anew
    except Exception:
        data = b""
    if len(data) > result.limit:
        data = b""
    result.put("error", data, type=kind, message=str(error)[:2000], traceback=shown[-50000:])


def make(result: Result, call: Any, data: bytes) -> int:
    """Make the call. What else ends a process (exit(), a signal) ends this one, without a result."""
    needed(call)
    function, arguments, keywords = load(data)
    try:
        value = function(*arguments, **keywords)
    except Exception as error:
        trace = error.__traceback__
        shown = "".join(traceback.format_exception(type(error), error, trace and trace.tb_next))
        sys.stdout.flush()
        sys.stderr.write(shown)
        keep_error(result, error, shown)
        return 1
    keep(result, value)
    return 0


def look_in(package: Path, folders: Any) -> None:
    """Modules are looked for where the script of a run would: the working directory first."""
    here = Path.cwd()
    places = [str(place) for place in (here, *(here / folder for folder in folders)) if place.is_dir()]
    others = [place for place in sys.path if place not in (str(package), *places)]
    sys.path[:] = [*places, *others, str(package)]


def main(package: Path) -> int:
    with zipfile.ZipFile(str(package)) as file:
        call = json.loads(file.read("call.json").decode("ascii"))
        data = file.read("call.pkl")
    rank = int(os.environ.get("RANK") or 0)
    result = None
    try:
        result = Result(package.parent / "results", rank, call["limit"])
        try:
            import cloudpickle  # noqa: F401 (the one that pickled the call, before any other)
        except Exception as error:
            if call["code"] and sys.version_info >= (3, 8):
                raise Trouble(f"cloudpickle, as it was brought along, does not load: {error}") from None
        look_in(package, call["paths"])
        sys.argv[:] = [call["name"]]
        return make(result, call, data)
    except Trouble as trouble:
        sys.stdout.flush()
        sys.stderr.write(f"hpcrun: {trouble}\n")
        if result is not None:
            result.put("trouble", b"", message=str(trouble)[:5000])
    except OSError as error:
        sys.stdout.flush()
        sys.stderr.write(f"hpcrun: the result of the function cannot be written: {error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(__file__).absolute().parent))
