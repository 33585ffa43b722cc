"""What a conda environment is made of, put together in Python, as Azure ML has it.

The truth is the environment's ``conda`` section: dependencies that were taken from an environment, or given
to one, are a view of it, and every change shows there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from hpcrun.errors import ConfigError, NotFoundError, Problem

FILE_NAME = "conda_dependencies.yml"
_LARGEST = 1_000_000
_KEYS = ("name", "channels", "dependencies", "prefix", "variables")
_NAME = re.compile(r"(?:[^\s]*::)?([A-Za-z0-9_.-]+)")
_PYTHON = re.compile(r"python *={1,2} *([0-9]+(?:\.[0-9]+){0,2})(?:\.\*)?\Z")


class CondaDependencies:
    """Channels, conda packages, pip packages and a Python, to be made into an environment.

    >>> deps = CondaDependencies.create(conda_packages=["numpy"], pip_packages=["einops"])
    >>> env = Environment("science")
    >>> env.python.conda_dependencies = deps

    ``conda_dependencies_file_path`` is an environment.yml to begin with. Raises ConfigError, NotFoundError.
    """

    def __init__(self, conda_dependencies_file_path: str | Path | None = None) -> None:
        self._channels: list[str] = []
        self._conda: list[str] = []
        self._pip: list[str] = []
        self._options: list[str] = []
        self._python: str | None = None
        self._tell: Callable[[CondaDependencies], None] | None = None
        self.variables: dict[str, str] = {}
        if conda_dependencies_file_path is not None:
            self._load(Path(conda_dependencies_file_path))

    @staticmethod
    def create(
        pip_indexurl: str | None = None,
        pip_packages: Iterable[str] | None = None,
        conda_packages: Iterable[str] | None = None,
        python_version: str | None = None,
        pin_sdk_version: bool = True,
    ) -> CondaDependencies:
        """Dependencies with the Python that this is called with, unless ``python_version`` names another.

        ``pin_sdk_version`` is there for scripts written for Azure ML: hpcrun puts nothing in of its own.
        """
        made = CondaDependencies()
        made.set_python_version(python_version or "{}.{}".format(*sys.version_info[:2]))
        for package in conda_packages or ():
            made.add_conda_package(package)
        for package in pip_packages or ():
            made.add_pip_package(package)
        if pip_indexurl is not None:
            made.set_pip_index_url(pip_indexurl)
        return made

    # -- what there is --------------------------------------------------------

    @property
    def conda_channels(self) -> list[str]:
        return list(self._channels)

    @property
    def conda_packages(self) -> list[str]:
        """The Python first, where one is asked for."""
        return [*([] if self._python is None else [f"python={self._python}"]), *self._conda]

    @property
    def pip_packages(self) -> list[str]:
        return list(self._pip)

    @property
    def pip_options(self) -> list[str]:
        return list(self._options)

    def get_python_version(self) -> str | None:
        return self._python

    # -- changes --------------------------------------------------------------

    def add_channel(self, channel: str) -> None:
        """The last one is asked last."""
        if channel not in self._channels:
            self._channels.append(channel)
        self._changed()

    def remove_channel(self, channel: str) -> None:
        self._channels = [each for each in self._channels if each != channel]
        self._changed()

    def add_conda_package(self, conda_package: str) -> None:
        """In place of an older one of the same name."""
        exact = _PYTHON.match(conda_package)
        if exact:
            self._python = exact[1]
        else:
            if _name(conda_package) == "python":
                self._python = None
            self._conda = [*_others(self._conda, conda_package), conda_package]
        self._changed()

    def remove_conda_package(self, conda_package: str) -> None:
        """Raises ConfigError for Python itself."""
        if _name(conda_package) == "python":
            raise ConfigError(
                "Python cannot be removed", hint="Name another with set_python_version(VERSION)."
            )
        self._conda = _others(self._conda, conda_package)
        self._changed()

    def add_pip_package(self, pip_package: str) -> None:
        """At the end, in place of an older one of the same name."""
        self._pip = [*_others(self._pip, pip_package), pip_package]
        self._changed()

    def remove_pip_package(self, pip_package: str) -> None:
        self._pip = _others(self._pip, pip_package)
        self._changed()

    def set_pip_requirements(self, pip_requirements: Iterable[str]) -> None:
        """These packages and options, in place of all there are."""
        lines = list(pip_requirements)
        self._pip = [line for line in lines if not line.startswith("-")]
        self._options = [line for line in lines if line.startswith("-")]
        self._changed()

    def set_pip_option(self, pip_option: str) -> None:
        """``--extra-index-url https://…``, in place of the same option as it was."""
        self._options = [*self._other_options(pip_option), pip_option]
        self._changed()

    def remove_pip_option(self, pip_option: str) -> None:
        self._options = self._other_options(pip_option)
        self._changed()

    def set_pip_index_url(self, index_url: str) -> None:
        self.set_pip_option(f"--index-url {index_url}")

    def set_python_version(self, version: str) -> None:
        self._conda = [each for each in self._conda if _name(each) != "python"]
        self._python = version
        self._changed()

    def _other_options(self, option: str) -> list[str]:
        key = re.split(r"[ =]", option, maxsplit=1)[0]
        return [each for each in self._options if re.split(r"[ =]", each, maxsplit=1)[0] != key]

    # -- as text --------------------------------------------------------------

    def as_dict(self) -> dict[str, Any]:
        """What an environment.yml holds."""
        conda: list[Any] = self.conda_packages
        if self._pip or self._options:
            if not any(_name(each) == "pip" for each in conda):
                conda.append("pip")
            conda.append({"pip": [*self._options, *self._pip]})
        found: dict[str, Any] = {"channels": self.conda_channels} if self._channels else {}
        found["dependencies"] = conda
        if self.variables:
            found["variables"] = dict(self.variables)
        return found

    def serialize_to_string(self) -> str:
        """The text of an environment.yml."""
        import yaml

        return yaml.safe_dump(self.as_dict(), sort_keys=False, allow_unicode=True)

    def save(self, path: str | Path | None = None) -> str:
        """Write an environment.yml, by default ``conda_dependencies.yml`` here; its path."""
        target = Path(FILE_NAME if path is None else path)
        if target.is_dir():
            target = target / FILE_NAME
        target.write_text(self.serialize_to_string(), encoding="utf-8")
        return str(target)

    def save_to_file(self, base_directory: str | Path, conda_file_path: str | Path | None = None) -> str:
        """:meth:`save`, below a folder; the path as seen from there."""
        name = FILE_NAME if conda_file_path is None else str(conda_file_path)
        target = Path(base_directory) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        self.save(target)
        return name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CondaDependencies) and other.as_dict() == self.as_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"CondaDependencies({self.as_dict()!r})"

    # -- a file ---------------------------------------------------------------

    def _load(self, path: Path) -> None:
        import yaml

        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise NotFoundError(f"no such file: {path}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError([Problem(f"cannot be read: {error}", where=str(path))]) from error
        try:
            if len(text) > _LARGEST or any(
                isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)
            ):
                raise ConfigError([Problem("too large, or with aliases: write values out", where=str(path))])
            found = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = str(path) if mark is None else f"{path}:{mark.line + 1}:{mark.column + 1}"
            raise ConfigError([Problem("this is no YAML", where=where)]) from None
        self._take(found, str(path))

    def _take(self, found: object, where: str) -> None:
        if not isinstance(found, Mapping) or not isinstance(found.get("dependencies"), list):
            raise ConfigError([Problem("expected dependencies:, a list", where=where)])
        unknown = [str(key) for key in found if key not in _KEYS]
        if unknown:
            hint = f"There are {', '.join(_KEYS)}."
            raise ConfigError([Problem(f"unknown key {unknown[0]}", where=where, hint=hint)])
        for channel in found.get("channels") or ():
            self.add_channel(str(channel))
        for each in found["dependencies"]:
            if isinstance(each, Mapping) and list(each) == ["pip"] and isinstance(each["pip"], list):
                self.set_pip_requirements([*self._options, *self._pip, *map(str, each["pip"])])
            elif isinstance(each, str):
                self.add_conda_package(each)
            else:
                message = f"expected a package or pip:, found {each!r}"
                raise ConfigError([Problem(message, where=where, path="dependencies")])
        self.variables = {str(name): str(value) for name, value in (found.get("variables") or {}).items()}

    # -- the environment it belongs to ----------------------------------------

    def attach(self, tell: Callable[[CondaDependencies], None], *, now: bool = True) -> None:
        """Have ``tell`` called after every change, and at once if ``now``."""
        self._tell = tell
        if now:
            self._changed()

    def lists(self) -> dict[str, Any]:
        """What is said, by the names that the configuration has for it."""
        found = {
            "python_version": self._python,
            "channels": self.conda_channels,
            "conda_packages": list(self._conda),
            "pip_packages": self.pip_packages,
            "pip_options": self.pip_options,
        }
        return {name: value for name, value in found.items() if value}

    @staticmethod
    def of_lists(found: Mapping[str, Any]) -> CondaDependencies:
        """The opposite of :meth:`lists`."""
        made = CondaDependencies()
        made._python = found.get("python_version")
        made._channels, made._conda = list(found.get("channels", ())), list(found.get("conda_packages", ()))
        made._pip, made._options = list(found.get("pip_packages", ())), list(found.get("pip_options", ()))
        return made

    def _changed(self) -> None:
        if self._tell is not None and self.lists():
            self._tell(self)


def _name(requirement: str) -> str:
    found = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", found[1]).lower() if found else requirement


def _others(known: list[str], requirement: str) -> list[str]:
    name = _name(requirement)
    return [each for each in known if _name(each) != name]
