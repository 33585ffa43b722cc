"""Templates are strict, and nothing a person can write gets out of its place in the script (fault 34)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcrun import Environment, Resources, ScriptRunConfig
from hpcrun.errors import ConfigError, TemplateError
from hpcrun.models.environment import ApptainerSection
from hpcrun.models.site import Scheduler
from hpcrun.places.status import read_status
from hpcrun.render import render_script, time_limit
from tests.engine_help import install, job, local_site, run_script, slurm_site

CONFIG = ScriptRunConfig(".", "train.py")


@pytest.fixture
def templates(tmp_path: Path) -> Callable[..., list[Path]]:
    """Makes a folder of templates; ``local="…"`` is local.sh.j2."""

    def make(**texts: str) -> list[Path]:
        folder = tmp_path / f"templates{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for name, text in texts.items():
            (folder / f"{name}.sh.j2").write_text(text)
        return [folder]

    return make


def refused(folders: list[Path], **site: Any) -> str:
    with pytest.raises(TemplateError) as caught:
        render_script(job("/run", CONFIG, local_site(**site)), folders)
    return str(caught.value)


@pytest.mark.parametrize(
    "expression",
    [
        "'$(touch canary)'",
        "job.run_id.raw",
        "'x' ~ job.run_id",
        "job.run_id|upper",
        "job.exports",
        "none",
        "true",
        "3.5",
        "['a', 'b']|join(' ')",
    ],
)
def test_only_quoted_words_and_whole_numbers_get_into_a_script(
    expression: str, templates: Callable[..., list[Path]]
) -> None:
    said = refused(templates(local=f"#!/bin/bash\necho {{{{ {expression} }}}}\n"))
    assert "not safe in a script" in said
    assert "local.sh.j2:2" in said


def test_words_and_whole_numbers_do_get_in(templates: Callable[..., list[Path]]) -> None:
    folders = templates(local="{{ job.run_id }} {{ job.processes + 1 }} {{ job.run_dir }}\n")
    script = render_script(job("/a b", CONFIG), folders)
    assert script == "test_20260131-120000_abcdefgh 2 '/a b'\n"


def test_an_undefined_name_is_an_error_with_its_place(templates: Callable[..., list[Path]]) -> None:
    said = refused(templates(local="#!/bin/bash\n\n{{ job.runid }}\n"))
    assert "local.sh.j2:3: " in said
    assert "runid" in said
    assert "no_such" in refused(templates(local="{% if no_such %}x{% endif %}\n"))


def test_a_syntax_error_is_an_error_with_its_place(templates: Callable[..., list[Path]]) -> None:
    folders = templates(local="#!/bin/bash\n{% block end %}\n{{ job.run_id }\n{% endblock %}\n")
    said = refused(folders)
    assert f"{folders[0] / 'local.sh.j2'}:3: " in said
    assert "local.sh.j2:1: " in refused(templates(local="{{ job.run_id|no_such_filter }}\n"))


def test_an_error_in_a_template_that_is_extended_names_that_one(templates: Callable[..., list[Path]]) -> None:
    folders = templates(local="{% extends 'base.sh.j2' %}\n", base="a line\n{{ job.nothing }}\n")
    assert "base.sh.j2:2: " in refused(folders)


def test_an_unknown_template_is_an_error_that_says_where_it_was_looked_for(
    templates: Callable[..., list[Path]],
) -> None:
    folders = templates()
    said = refused(folders, scheduler=Scheduler(type="local", template="mine.sh.j2"))
    assert "'mine.sh.j2'" in said and str(folders[0]) in said
    assert "'gone.sh.j2'" in refused(templates(local="{% extends 'gone.sh.j2' %}"))


def test_the_nearest_template_counts_and_hpcrun_is_the_shipped_one(
    templates: Callable[..., list[Path]],
) -> None:
    mine = templates(local='{% extends "hpcrun/local.sh.j2" %}{% block end %}mine\n{% endblock %}')
    theirs = templates(local="theirs\n", job="never\n")
    script = render_script(job("/run", CONFIG), [*mine, *theirs])
    assert script.endswith("mine\n")
    assert script.startswith("#!/bin/bash\n"), "the shipped templates extend the shipped ones"
    assert render_script(job("/run", CONFIG), theirs) == "theirs\n"


def test_a_template_that_changes_on_disk_counts_as_it_now_is(templates: Callable[..., list[Path]]) -> None:
    folders = templates(local="old\n")
    assert render_script(job("/run", CONFIG), folders) == "old\n"
    path = folders[0] / "local.sh.j2"
    path.write_text("new\n")
    os.utime(path, ns=(1, 1))
    assert render_script(job("/run", CONFIG), folders) == "new\n"


@pytest.mark.parametrize(
    ("folder", "said"),
    [("/two\nlines", "line break"), ("/carriage\rreturn", "line break"), ("/back\\slash", "backslash")],
)
def test_slurm_cannot_be_told_of_such_a_folder(folder: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        render_script(job(folder, CONFIG, slurm_site()))
    render_script(job(folder, CONFIG))  # bash can


def test_what_no_script_can_carry_is_refused() -> None:
    with pytest.raises(ConfigError, match="NUL"):
        render_script(job("/run\0", CONFIG))
    with pytest.raises(ConfigError, match="line break"):
        options = Resources.model_construct(sbatch={"comment": "x\n#SBATCH --wrap=y"})
        config = ScriptRunConfig(".", "train.py")
        object.__setattr__(config, "resources", options)
        render_script(job("/run", config, slurm_site()))


@pytest.mark.parametrize("name", ["HPCRUN_RUN_DIR", "hpcrun_code", "UID", "SHELLOPTS", "PPID"])
def test_variables_that_the_script_itself_lives_by_cannot_be_set(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is (hpcrun|bash)'s own"):
        render_script(job("/run", ScriptRunConfig(".", "x.py", environment_variables={name: "1"})))
    with pytest.raises(ConfigError, match=name):
        render_script(job("/run", CONFIG, local_site(environment_variables={name: "1"})))


def test_apptainer_cannot_bind_every_folder() -> None:
    image = Environment("box", apptainer=ApptainerSection(image="/box.sif"))
    config = ScriptRunConfig(".", "x.py", environment=image)
    render_script(job("/fine here", config))
    for folder in ("/a:b", "/a,b"):
        with pytest.raises(ConfigError, match="Apptainer cannot bind"):
            render_script(job(folder, config))


def test_conda_without_a_root_is_refused() -> None:
    config = ScriptRunConfig(".", "x.py", environment=Environment("e", conda={"name": "e"}))
    with pytest.raises(ConfigError, match=r"conda\.root in site_configs/local"):
        render_script(job("/run", config))


def test_the_shorter_time_limit_counts() -> None:
    def limit(**more: Any) -> str | None:
        found = time_limit(ScriptRunConfig(".", "x.py", **more))
        return None if found is None else found.slurm

    assert limit() is None
    assert limit(max_run_duration_seconds=90) == "00:01:30"
    assert limit(resources=Resources(time="1h"), max_run_duration_seconds=7200) == "01:00:00"
    assert limit(resources=Resources(time="1h"), max_run_duration_seconds=60) == "00:01:00"


# Pieces that would do something, were they ever read as shell, Slurm or Jinja source.
PIECES = (
    *(
        "$(touch {canary})",
        "`touch {canary}`",
        "; touch {canary};",
        "\ntouch {canary}\n",
        "&& touch {canary}",
    ),
    *(
        "'",
        '"',
        "\\",
        "$HOME",
        "${{x:-y}}",
        "~",
        "*",
        "!",
        "#",
        "# ",
        "\n#SBATCH --wrap=x\n",
        "EOF",
        "%s",
        "%",
    ),
    *(
        "\n",
        "\t",
        "\r",
        " ",
        "-",
        "--",
        "=",
        "|",
        ">",
        "<",
        "(",
        ")",
        "{{",
        "}}",
        "{% x %}",
        "\u2028",
        "雪",
        "é",
    ),
    *("\x01", "\x1b[0m", "\x7f", "a", "0"),
)
hostile = st.lists(
    st.one_of(st.sampled_from(PIECES), st.text(st.characters(exclude_categories=["Cs"]), max_size=3)),
    max_size=5,
).map(lambda parts: "".join(parts).replace("\0", ""))
one_line = hostile.map(lambda text: "".join(c for c in text if ord(c) >= 32 and ord(c) != 127))
file_name = hostile.map(lambda text: "x" + text.replace("/", "_").encode()[:80].decode("utf-8", "ignore"))

COUNTER = itertools.count()
SHOW = """printf '%s\\0' "$#" "$@" "$PWD"
for name in "${!V_@}"; do printf '%s\\0' "${!name}"; done
"""


@pytest.mark.slow
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arguments=st.lists(hostile, max_size=25),
    variables=st.lists(hostile, max_size=9),
    folder=file_name,
    display=one_line,
    tag=hostile,
    script=file_name,
)
def test_everything_comes_out_of_bash_as_it_went_in(
    tmp_path: Path,
    arguments: list[str],
    variables: list[str],
    folder: str,
    display: str,
    tag: str,
    script: str,
) -> None:
    here = tmp_path / f"{next(COUNTER)}" / folder
    canary = tmp_path / "canary"
    armed = [text.replace("{canary}", str(canary)) for text in arguments]
    exported = {f"V_{i}": text.replace("{canary}", str(canary)) for i, text in enumerate(variables)}
    name = script.translate(dict.fromkeys((*range(32), 127), "_")) + ".sh"
    config = ScriptRunConfig(
        ".",
        name,
        arguments=armed,
        display_name=display.replace("{canary}", str(canary))[:256],
        environment_variables=exported,
        tags={"tag": tag},
    )
    run_dir = install(job(here, config), {name: SHOW})
    result = run_script(run_dir)
    assert not canary.exists()
    assert (result.rc, result.stderr) == (0, "")
    said = (run_dir / "user_logs" / "std_log.txt").read_bytes().decode()
    assert said.split("\0")[:-1] == [str(len(armed)), *armed, str(run_dir / "code"), *exported.values()]
    status = read_status(run_dir / "status.json")
    assert status is not None and (status.state, status.exit_code) == ("completed", 0)
    assert sorted(path.name for path in (run_dir / "code").iterdir()) == sorted([name, "logs", "outputs"])


@settings(max_examples=150)
@given(
    value=one_line,
    constraint=one_line.filter(lambda text: 0 < len(text) < 200),
    display=one_line,
    run_dir=one_line.map(lambda text: "/" + text.replace("\\", "")),
    command=hostile.filter(bool),
)
def test_no_value_makes_a_second_directive(
    value: str, constraint: str, display: str, run_dir: str, command: str
) -> None:
    config = ScriptRunConfig(
        ".",
        command=command,
        display_name=display[:256],
        resources=Resources(constraint=constraint, sbatch={"comment": value}),
    )
    head, _, _ = render_script(job(run_dir, config, slurm_site())).partition("\nset -u")
    lines = head.split("\n")
    assert all(line.startswith("#") for line in lines)
    names = [line.split("=")[0] for line in lines if line.startswith("#SBATCH")]
    assert names == [
        *(f"#SBATCH --{name}" for name in ("job-name", "chdir", "output", "open-mode", "nodes")),
        *(f"#SBATCH --{name}" for name in ("ntasks-per-node", "cpus-per-task", "constraint", "comment")),
    ]
