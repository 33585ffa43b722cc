"""What can be logged, and how it stands in a line: pure standard library, Python 3.8 and later.

Numbers of other libraries become Python's own by what they can do (``item()``, ``tolist()``), so that none of
these libraries is imported. Nothing ever becomes text that was none.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself costs more to import than all of this
    from typing import Any

PLAIN = (float, int, str, bool, type(None))
_INFINITY = float("inf")
_DEEPEST = 20


class _No:
    """Nothing that can be logged as one value."""


_NO = _No()


def scalar(value: Any, what: str) -> Any:
    """A plain value: a number, text, a bool or None. ``what`` begins the words of the TypeError."""
    found = _scalar(value)
    if found is _NO:
        kind = f"{type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")
        shape = getattr(value, "shape", None)
        shaped = f" of shape {tuple(shape)}" if isinstance(shape, tuple) and shape else ""
        raise TypeError(
            f"{what} is a {kind}{shaped}, and must be one number, text, bool or None: "
            "a list goes to log_list, named values to log_row, columns to log_table"
        )
    return found


def _scalar(value: Any) -> Any:
    if type(value) in PLAIN:
        return value
    for kind in (str, int, float):  # an IntEnum, numpy's float64 and the like
        if isinstance(value, kind):
            return kind(value) if kind is not str else str.__str__(value)
    for method in ("item", "numpy", "__index__", "__float__"):
        convert = getattr(type(value), method, None)
        if not callable(convert):
            continue
        try:
            found = convert(value)
        except (TypeError, ValueError, RuntimeError, OverflowError, AttributeError):
            continue
        if type(found) in PLAIN:
            return found
        if isinstance(found, float):  # numpy's float64, from a tensor's numpy()
            return float(found)
        if method == "numpy" and getattr(found, "shape", None) == ():
            return _scalar(found)
    return _NO


def number(value: Any, what: str) -> Any:
    """An int or a finite float. Raises TypeError, ValueError."""
    found = value if type(value) in PLAIN else _scalar(value)
    if type(found) not in (int, float):
        raise TypeError(f"{what} must be a number, and is {value!r:.80}")
    if found != found or found in (_INFINITY, -_INFINITY):
        raise ValueError(f"{what} must be a finite number, and is {found}")
    return found


def sequence(value: Any, what: str) -> Any:
    """A list of plain values, of whatever can be gone through once. Raises TypeError."""
    if isinstance(value, (str, bytes, dict)):
        raise TypeError(f"{what} must be a list of values, and is {value!r:.80}")
    tolist = getattr(value, "tolist", None)
    if callable(tolist):
        value = tolist()
    try:
        items = list(value)
    except TypeError:
        raise TypeError(f"{what} must be a list of values, and is {value!r:.80}") from None
    return [item if type(item) in PLAIN else scalar(item, f"a value of {what}") for item in items]


def table(value: Any, what: str) -> Any:
    """Columns of one length. Raises TypeError, ValueError."""
    items = getattr(value, "items", None)
    if not callable(items):
        raise TypeError(f"{what} must be a dict of columns, {{name: [values]}}, and is {value!r:.80}")
    columns = {
        text(column, f"a column of {what}"): sequence(v, f"{what}[{column!r}]") for column, v in items()
    }
    lengths = {column: len(values) for column, values in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{column!r} has {length}" for column, length in lengths.items())
        raise ValueError(f"the columns of {what} must be equally long: {told:.500}")
    return columns


def document(value: Any, what: str) -> Any:
    """A JSON object, given as a dict or as text. Raises TypeError, ValueError."""
    if isinstance(value, (str, bytes)):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"{what} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise TypeError(f"{what} must be a dict, or JSON text of an object, and is {value!r:.80}")
    return _deep(value, what, 0)


def _deep(value: Any, what: str, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValueError(f"{what} is nested too deeply")
    if isinstance(value, dict):
        return {text(k, f"a key of {what}"): _deep(v, what, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_deep(item, what, depth + 1) for item in value]
    found = _scalar(value)
    if found is not _NO:
        return found
    tolist = getattr(value, "tolist", None)
    if callable(tolist):
        return _deep(tolist(), what, depth + 1)
    return scalar(value, f"a value of {what}")


def text(value: Any, what: str) -> str:
    """Text that is not empty. Raises TypeError, ValueError."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be named by text, and is named by {value!r:.80}")
    if not value:
        raise ValueError(f"{what} must have a name, and that is empty")
    return str.__str__(value)


def pairs(values: Any, what: str) -> dict[str, str]:
    """Names and values as tags and properties have them: text. Raises TypeError, ValueError."""
    items = getattr(values, "items", None)
    if not callable(items):
        raise TypeError(f"{what} are names and their values, as a dict, and not {values!r:.80}")
    found = {}
    for key, value in items():
        known = text(key, what)
        if not known.strip() or not known.isprintable() or len(known) > 255:
            raise ValueError(f"not a name for {what}: {known!r:.80}")
        value = scalar(value, f"{what}[{known!r}]")
        found[known] = "" if value is None else str(value)
    return found


def name(value: Any) -> None:
    """Raises ValueError for what cannot be displayed as a name."""
    if not isinstance(value, str) or len(value) > 256 or not value.isprintable():
        raise ValueError(f"not a name to display: {value!r:.80}: one line of 256 characters at most")
