"""What a conda environment is to be made of, as files and configuration say it."""

from __future__ import annotations

from typing import Any

import pytest

from hpcrun.environments.conda_file import CondaDefinition, of_file, of_section, package_name
from hpcrun.errors import ConfigError
from hpcrun.models.environment import CondaSection


def read(text: str) -> CondaDefinition:
    return of_file(text.encode(), "environment.yml")


def test_an_environment_file() -> None:
    made = read(
        """\
name: torch
channels: [pytorch, nodefaults, conda-forge]
dependencies:
  - python=3.10
  - conda-forge::numpy >=1.26,<2
  - pip:
    - --extra-index-url https://example.org/simple
    - lightning==2.5 ; python_version > "3.9"
variables: {OMP_NUM_THREADS: 010, EMPTY: ""}
prefix: /home/somebody/envs/torch
"""
    )
    assert made == CondaDefinition(
        name="torch",
        channels=("pytorch", "conda-forge"),
        specs=("python=3.10", "conda-forge::numpy >=1.26,<2", "pip"),
        pip=("--extra-index-url https://example.org/simple", 'lightning==2.5 ; python_version > "3.9"'),
        variables={"OMP_NUM_THREADS": "010", "EMPTY": ""},
    )


FILES = {
    "env/requirements.txt": b"a==1  # why\n\n-r more/b.txt\n-c limits.txt\n",
    "env/more/b.txt": b"b ; python_version > '3'\n-e .\n-r ../requirements.txt\n-r c.txt\n",
}


def get(name: str) -> bytes:
    if name not in FILES:
        raise FileNotFoundError(2, "No such file or directory", name)
    return FILES[name]


def test_requirements_files_that_it_names() -> None:
    text = b"dependencies:\n- pip:\n  - x\n  - -r requirements.txt\n"
    with pytest.raises(ConfigError) as caught:
        of_file(text, "env/environment.yml", get)
    assert [str(problem).splitlines()[0] for problem in caught.value.problems] == [
        "env/more/b.txt:2:1: -e . is a folder or file of its own: an environment is made once and shared",
        "env/environment.yml:4:5: dependencies.pip: env/requirements.txt names itself",
        "env/environment.yml:4:5: dependencies.pip: cannot read env/more/c.txt: No such file or directory",
        "env/requirements.txt:4:1: -c limits.txt names another file",
    ]
    FILES["env/more/c.txt"] = b"c\n"
    FILES["env/more/b.txt"] = b"b ; python_version > '3'\n-r c.txt\n"
    FILES["env/requirements.txt"] = b"a==1  # why\n\n-r more/b.txt\n"
    assert of_file(text, "env/environment.yml", get).pip == ("x", "a==1", "b ; python_version > '3'", "c")


def test_packages_of_the_configuration() -> None:
    section = CondaSection(
        python_version="3.11",
        conda_packages=["numpy"],
        pip_packages=["x"],
        pip_options=["--find-links '/a b'"],
    )
    assert of_section(section) == CondaDefinition(
        channels=("conda-forge",),
        specs=("python=3.11", "numpy", "pip"),
        pip=("x",),
        pip_options=("--find-links", "/a b"),
    )
    assert of_section(CondaSection(pip_packages=["x"], conda_packages=["pip=24"])).specs == ("pip=24",)


def test_an_explicit_list() -> None:
    text = "# platform: linux-64\n@EXPLICIT\nhttps://e.org/linux-64/a-1-0.conda#abc\n\n# pip: x==1\n"
    made = of_file(text.encode(), "conda.lock")
    assert made.urls == ("https://e.org/linux-64/a-1-0.conda#abc",)
    assert (made.pip, made.pip_options, made.specs) == (("x==1",), ("--no-deps",), ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "dependencies: [a]\nchanels: [b]",
            "environment.yml:2:1: unknown key chanels\n    Did you mean channels?",
        ),
        ("name: x", "environment.yml:1:1: dependencies: missing: there is nothing to install"),
        ("dependencies: numpy", "environment.yml:1:15: dependencies: expected a list"),
        ("dependencies:\n- a\n-  -p", "environment.yml:3:4: dependencies[1]: -p begins with a dash"),
        (
            "dependencies:\n- a: 1",
            "environment.yml:2:3: dependencies[0]: expected a package or pip:, found a:",
        ),
        ("dependencies:\n- [a]", "environment.yml:2:3: dependencies[0]: expected text"),
        ("dependencies:\n- a\n-", "environment.yml:3:2: dependencies[1]: nothing in it"),
        ('dependencies: ["a\\nb"]', "environment.yml:1:16: dependencies[0]: expected one line"),
        ("dependencies: [a]\nchannels: [--x]", "environment.yml:2:12: channels[0]: --x begins with a dash"),
        (
            "dependencies:\n- pip: [-e .]",
            "environment.yml:2:9: dependencies.pip: -e . is a folder or file of its own",
        ),
        ("dependencies:\n- pip: [./pkg]", "environment.yml:2:9: dependencies.pip: ./pkg is a folder or file"),
        (
            "dependencies:\n- pip: [-r r.txt]",
            "environment.yml:2:9: dependencies.pip: -r r.txt names another file",
        ),
        (
            "dependencies: [a]\nvariables: {A-B: 1}",
            "environment.yml:2:13: variables: A-B is no name that a shell",
        ),
        ("dependencies: [a]\nvariables: [A]", "environment.yml:2:12: variables: expected keys and values"),
        ("dependencies: &x [a]", "environment.yml:1:15: anchors (&x) are not allowed"),
        ("dependencies: [a", "environment.yml:1:15: a list in [ ] that is never closed"),
        ("- a", "environment.yml:1:1: expected keys and values"),
        ("", "environment.yml:1:1: expected keys and values"),
        ("@EXPLICIT\nnumpy=1", "environment.yml:2:1: expected the URL of a package, found numpy=1"),
        ("@EXPLICIT\n", "environment.yml: no package after @EXPLICIT"),
    ],
)
def test_what_is_wrong_with_a_file(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert str(caught.value).startswith(expected)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        read("dependencies: [a, [b]]\nx: 1\ny: 2\n")
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            {"python_version": "3.11", "conda_packages": ["numpy", "Python>=3"]},
            "environment.conda.conda_packages[1]: python_version says 3.11 and a package says Python>=3",
        ),
        ({"pip_packages": ["a", "../b"]}, "environment.conda.pip_packages[1]: ../b is a folder or file"),
        ({"pip_packages": ["a @ file:///b"]}, ""),
        (
            {"pip_packages": ["a"], "pip_options": ["--x 'y"]},
            "environment.conda.pip_options[0]: a quote in it",
        ),
    ],
)
def test_what_is_wrong_with_a_section(section: dict[str, Any], expected: str) -> None:
    if not expected:
        of_section(CondaSection(**section))
        return
    with pytest.raises(ConfigError) as caught:
        of_section(CondaSection(**section))
    assert str(caught.value).startswith(expected)


def test_the_name_in_a_spec() -> None:
    specs = ["numpy", "NumPy>=1", "conda-forge::numpy=1=py_0", "numpy ==1", "numpy[version='1']"]
    assert {package_name(spec) for spec in specs} == {"numpy"}
