"""What a conda environment is to be made of: from an environment.yml, a list with ``@EXPLICIT``, or packages.

An environment.yml is read as configuration is: no tags, no anchors, and every error has its line. An
explicit list is what ``conda list --explicit`` prints, and what is recorded of each environment that
hpcrun makes; there, pip's packages are comments, ``# pip: NAME==VERSION``, that conda itself skips.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from hpcrun.config.tree import ListNode, MapNode, Node, Scalar, is_null, printable
from hpcrun.config.words import nearest
from hpcrun.config.yamltree import decode, parse
from hpcrun.environments.recipe import Read
from hpcrun.errors import ConfigError, Problem
from hpcrun.models.environment import CondaSection
from hpcrun.quoting import is_variable_name

KEYS = ("name", "channels", "dependencies", "prefix", "variables")
DEFAULT_CHANNEL = "conda-forge"
EXPLICIT = "@EXPLICIT"
PIP_LINE = "# pip: "

_NAME = re.compile(r"(?:[^\s]*::)?([A-Za-z0-9_.-]+)")
_LOCAL = re.compile(r"(?:\.{0,2}/|~|[a-zA-Z0-9._-]+ *(?:\[[^]]*\])? *@ *(?:\.{0,2}/|file:\.))")
_NESTED = re.compile(r"(?:-r|--requirement)(?:\s*=\s*|\s+|(?<=-r))(\S+)\Z")
_CONSTRAINTS = re.compile(r"(?:-c|--constraint)(?:[ =]|(?<=-c)(?=\S))")
_EDITABLE = re.compile(r"(?:-e|--editable)(?:[ =]|(?<=-e)(?=\S))")


@dataclass(frozen=True)
class CondaDefinition:
    """``specs`` as conda takes them, or ``urls`` of packages, never both; ``pip`` are lines of a requirements
    file, ``pip_options`` words of pip's command line."""

    name: str = ""
    channels: tuple[str, ...] = ()
    specs: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    pip_options: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)


def of_section(section: CondaSection) -> CondaDefinition:
    """From the packages that the configuration itself lists. Raises ConfigError."""
    specs = list(section.conda_packages)
    if section.python_version is not None:
        _refuse_second_python(section)
        specs.insert(0, f"python={section.python_version}")
    problems = [
        Problem(message, path=f"environment.conda.pip_packages[{i}]", hint=hint)
        for i, line in enumerate(section.pip_packages)
        for message, hint in _wrong_with(line)
    ]
    options: list[str] = []
    for i, option in enumerate(section.pip_options):
        try:
            options += shlex.split(option)
        except ValueError:
            message = "a quote in it is never closed"
            problems.append(Problem(message, path=f"environment.conda.pip_options[{i}]"))
    if problems:
        raise ConfigError(problems)
    return _complete(
        CondaDefinition(
            channels=tuple(section.channels),
            specs=tuple(specs),
            pip=tuple(section.pip_packages),
            pip_options=tuple(options),
        )
    )


def of_file(content: bytes, shown: str, read: Read | None = None) -> CondaDefinition:
    """From a file, whose name is ``shown``; ``read`` gives the requirements files that its ``pip:`` names.

    Raises ConfigError with all that is wrong.
    """
    text = decode(content, shown)
    if any(line.strip() == EXPLICIT for line in text.splitlines()):
        return _of_explicit(text, shown)
    node, problems = parse(text, shown)
    if not isinstance(node, MapNode):
        where = f"{shown}:1:1" if node is None else str(node.place)
        hint = "An environment.yml has channels: and dependencies:, as conda env export writes them."
        raise ConfigError([*problems, Problem("expected keys and values", where=where, hint=hint)])
    reader = _Reader(problems, shown, read)
    made = reader.definition(node)
    if reader.problems:
        raise ConfigError(reader.problems)
    return _complete(made)


def package_name(spec: str) -> str:
    """``numpy`` of ``conda-forge::NumPy>=1.2``."""
    found = _NAME.match(spec)
    return found.group(1).lower() if found else ""


def _complete(made: CondaDefinition) -> CondaDefinition:
    """With pip where pip is needed, and with conda-forge where no channel is named."""
    channels = tuple(each for each in made.channels if each != "nodefaults") or (DEFAULT_CHANNEL,)
    specs = made.specs
    if made.pip and "pip" not in map(package_name, specs):
        specs = (*specs, "pip")
    return CondaDefinition(
        made.name, channels, specs, made.urls, made.pip, made.pip_options, dict(made.variables)
    )


def _refuse_second_python(section: CondaSection) -> None:
    for i, spec in enumerate(section.conda_packages):
        if package_name(spec) == "python":
            message = f"python_version says {section.python_version} and a package says {spec}: keep one"
            raise ConfigError([Problem(message, path=f"environment.conda.conda_packages[{i}]")])


def _wrong_with(line: str) -> Iterator[tuple[str, str]]:
    """What forbids a line of pip requirements, and what to do."""
    if _EDITABLE.match(line) or _LOCAL.match(line):
        yield (
            f"{printable(line)} is a folder or file of its own: an environment is made once and shared",
            "Build a wheel and put it where pip finds it, or run the code from the snapshot.",
        )
    elif _NESTED.match(line) or _CONSTRAINTS.match(line):
        yield f"{printable(line)} names another file", "Write its lines here."


def _of_explicit(text: str, shown: str) -> CondaDefinition:
    urls: list[str] = []
    pip: list[str] = []
    problems: list[Problem] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if line.startswith(PIP_LINE):
            pip.append(line.removeprefix(PIP_LINE).strip())
        elif line and not line.startswith("#") and line != EXPLICIT:
            if "://" in line and not any(c.isspace() for c in line):
                urls.append(line)
            else:
                message = f"expected the URL of a package, found {printable(line)}"
                problems.append(Problem(message, where=f"{shown}:{number}:1"))
    if not urls and not problems:
        problems = [Problem(f"no package after {EXPLICIT}", where=shown)]
    if problems:
        raise ConfigError(problems)
    # What was resolved once is not resolved again.
    return CondaDefinition(urls=tuple(urls), pip=tuple(pip), pip_options=("--no-deps",) if pip else ())


class _Reader:
    """An environment.yml's tree; what is wrong with it is gathered."""

    def __init__(self, problems: list[Problem], shown: str, read: Read | None) -> None:
        self.problems = list(problems)
        self._folder = posixpath.dirname(shown)
        self._read = read

    def definition(self, tree: MapNode) -> CondaDefinition:
        for key in tree.entries:
            if key not in KEYS:
                near = nearest(key, KEYS)
                hint = f"Did you mean {near}?" if near else f"There are {', '.join(KEYS)}."
                where = str(tree.key_place(key))
                self.problems.append(Problem(f"unknown key {printable(key)}", where=where, hint=hint))
        self._text(tree.entries.get("prefix"), "prefix")
        specs, pip = self._dependencies(tree.entries.get("dependencies"), tree)
        return CondaDefinition(
            name=self._text(tree.entries.get("name"), "name"),
            channels=tuple(text for text, _ in self._texts(tree.entries.get("channels"), "channels")),
            specs=specs,
            pip=pip,
            variables=self._variables(tree.entries.get("variables")),
        )

    def _note(self, node: Node, path: str, message: str, hint: str = "") -> None:
        self.problems.append(Problem(message, where=str(node.place), path=path, hint=hint))

    def _text(self, node: Node | None, path: str) -> str:
        """A scalar as it is written: ``3.10`` is no number here."""
        if node is None or is_null(node):
            return ""
        if not isinstance(node, Scalar):
            self._note(node, path, "expected text")
            return ""
        text = node.text if node.text is not None else str(node.value)
        if "\n" in text or "\r" in text or "\0" in text:
            self._note(node, path, "expected one line")
            return ""
        return text.strip()

    def _texts(self, node: Node | None, path: str) -> Iterator[tuple[str, Node]]:
        """The texts of a list, no one of which is an option."""
        if node is None or is_null(node):
            return
        if not isinstance(node, ListNode):
            self._note(node, path, "expected a list, one item a line after '- '")
            return
        for i, item in enumerate(node.items):
            if path == "dependencies" and isinstance(item, MapNode):
                continue
            text = self._text(item, f"{path}[{i}]")
            if text.startswith("-") and path != "dependencies.pip":
                self._note(item, f"{path}[{i}]", f"{printable(text)} begins with a dash")
            elif text:
                yield text, item
            elif is_null(item):
                self._note(item, f"{path}[{i}]", "nothing in it")

    def _dependencies(self, node: Node | None, tree: MapNode) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if node is None or is_null(node):
            self._note(tree, "dependencies", "missing: there is nothing to install")
            return (), ()
        specs = tuple(text for text, _ in self._texts(node, "dependencies"))
        pip: list[str] = []
        for i, item in enumerate(node.items if isinstance(node, ListNode) else []):
            if not isinstance(item, MapNode):
                continue
            for key, child in item.entries.items():
                if key == "pip":
                    pip += self._pip(child)
                else:
                    hint = "Write NAME=VERSION." if isinstance(child, Scalar) else ""
                    message = f"expected a package or pip:, found {printable(key)}:"
                    self._note(item, f"dependencies[{i}]", message, hint)
        return specs, tuple(pip)

    def _pip(self, node: Node) -> Iterator[str]:
        for text, item in self._texts(node, "dependencies.pip"):
            nested = _NESTED.match(text)
            if nested and self._read is not None:
                yield from self._requirements(posixpath.join(self._folder, nested[1]), item, ())
                continue
            for message, hint in _wrong_with(text):
                self._note(item, "dependencies.pip", message, hint)
            yield text

    def _requirements(self, name: str, node: Node, above: tuple[str, ...]) -> Iterator[str]:
        """The lines of a requirements file, and of those that it names in turn."""
        assert self._read is not None
        name = posixpath.normpath(name)
        if name in above:
            self._note(node, "dependencies.pip", f"{name} names itself")
            return
        try:
            text = decode(self._read(name), name)
        except OSError as exc:
            self._note(node, "dependencies.pip", f"cannot read {name}: {exc.strerror or exc}")
            return
        for number, raw in enumerate(text.splitlines(), 1):
            line = re.sub(r"(^|\s)#.*", "", raw).strip()
            nested = _NESTED.match(line)
            if nested:
                below = posixpath.join(posixpath.dirname(name), nested[1])
                yield from self._requirements(below, node, (*above, name))
            elif line:
                for message, hint in _wrong_with(line):
                    self.problems.append(Problem(message, where=f"{name}:{number}:1", hint=hint))
                yield line

    def _variables(self, node: Node | None) -> dict[str, str]:
        if node is None or is_null(node):
            return {}
        if not isinstance(node, MapNode):
            self._note(node, "variables", "expected keys and values, NAME: value")
            return {}
        for name in node.entries:
            if not is_variable_name(name):
                where = str(node.key_place(name))
                message = f"{printable(name)} is no name that a shell can export"
                self.problems.append(Problem(message, where=where, path="variables"))
        return {name: self._text(child, f"variables.{name}") for name, child in node.entries.items()}
