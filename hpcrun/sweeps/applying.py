"""How the hyperparameters of a trial reach its script: as arguments, as variables, or in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hpcrun.models.expressions import Value
from hpcrun.models.run import ScriptRunConfig, argument_text

FILE_VARIABLE = "HPCRUN_PARAMETERS_FILE"
"""Where the script finds the path of the file, which holds one JSON object."""

PARAMETERS_VARIABLE = "HPCRUN_PARAMETERS"
"""The same JSON itself: the job's script writes it into the file."""


def flag_of(name: str) -> str:
    """``lr`` is ``--lr``; what begins with a dash stays as it is."""
    return name if name.startswith("-") else f"--{name}"


def argument_words(parameters: Mapping[str, Value]) -> list[str]:
    """``--lr 0.1 --layers 3``, one word each."""
    return [word for name, value in parameters.items() for word in (flag_of(name), argument_text(value))]


def variables(parameters: Mapping[str, Value]) -> dict[str, str]:
    """Each under its own name, as text."""
    return {name: argument_text(value) for name, value in parameters.items()}


def file_text(parameters: Mapping[str, Value]) -> str:
    """The file's content."""
    return json.dumps(dict(parameters), ensure_ascii=True)


def apply(config: ScriptRunConfig, parameters: Mapping[str, Value], pass_as: str) -> ScriptRunConfig:
    """The configuration of one trial; ``config`` is left as it is.

    A name that is among the arguments (``--lr 0.1`` or ``--lr=0.1``) gets its new value where it stands.
    """
    if pass_as == "arguments":
        if isinstance(config.command, list):
            return config.model_copy(update={"command": [*map(str, replaced(config.command, parameters))]})
        return config.model_copy(update={"arguments": replaced(config.arguments, parameters)})
    more = variables(parameters) if pass_as == "variables" else {PARAMETERS_VARIABLE: file_text(parameters)}
    return config.model_copy(update={"environment_variables": {**config.environment_variables, **more}})


def replaced(arguments: Sequence[Any], parameters: Mapping[str, Value]) -> list[Any]:
    """The arguments with the parameters in them: where a name stands already, else at the end.

    What comes after a lone ``--`` is no option and stays as it is.
    """
    words, rest = list(arguments), list[Any]()
    if "--" in words:
        cut = words.index("--")
        words, rest = words[:cut], words[cut:]
    names = {flag_of(name): value for name, value in parameters.items()}
    found, done = list[Any](), set[str]()
    while words:
        word = words.pop(0)
        name, joined, _ = word.partition("=") if isinstance(word, str) else ("", "", "")
        if name not in names:
            found.append(word)
            continue
        if not joined and words and _is_value(words[0]):
            words.pop(0)
        if name not in done:
            done.add(name)
            text = argument_text(names[name])
            found += [f"{name}={text}"] if joined else [name, text]
    left = {name: value for name, value in names.items() if name not in done}
    return [*found, *argument_words(left), *rest]


def _is_value(word: Any) -> bool:
    """Whether a word is the value of the option before it, and not the next option."""
    if not isinstance(word, str) or not word.startswith("-") or word == "-":
        return True
    try:
        float(word)
    except ValueError:
        return False
    return True
