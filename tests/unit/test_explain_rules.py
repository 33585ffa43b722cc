"""Every rule that puts an end into words, with logs as they really look."""

from __future__ import annotations

from typing import Any

import pytest

from hpcrun.explain.facts import LONGEST, Explanation, Facts, Log
from hpcrun.explain.imports import DISTRIBUTIONS, distribution
from hpcrun.explain.rules import explain
from hpcrun.explain.tracebacks import read_traceback
from hpcrun.states import RunState

RUN = "cifar_20260131-120000_abcdefgh"
CODE = f"/scratch/alice/runs/{RUN}/code"


def failed(log: str = "", **more: Any) -> Explanation:
    """What is said of a run of one process that failed and had printed ``log``."""
    known: dict[str, Any] = {"reason": "BadExit", "exit_code": 1, "job_id": "77", "logs": (Log(None, log),)}
    return explain(Facts(RUN, RunState.FAILED, **{**known, **more}))


def traceback(error: str, *, lines: tuple[tuple[str, int, str], ...] = (("train.py", 7, "main()"),)) -> str:
    """A traceback that ends in the script's own code, unless frames are given by absolute path."""
    shown = ["epoch 1", "Traceback (most recent call last):"]
    for path, number, text in lines:
        place = path if path.startswith("/") else f"{CODE}/{path}"
        shown += [f'  File "{place}", line {number}, in main', f"    {text}", "    ~~~~^^"]
    return "\n".join([*shown, error, ""])


def all_words(found: Explanation) -> str:
    return "\n".join([found.words, *found.evidence, *found.next])


# -- exceptions ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "package"),
    [("cv2", "opencv-python"), ("yaml", "PyYAML"), ("sklearn.svm", "scikit-learn"), ("PIL", "pillow"),
     ("numpy", "numpy"), ("torch_geometric", "torch-geometric"), ("google.protobuf", "protobuf")],
)  # fmt: skip
def test_a_missing_module_is_named_as_pip_knows_it(module: str, package: str) -> None:
    log = traceback(f"ModuleNotFoundError: No module named '{module}'")
    found = failed(log)
    assert found.cause == "MissingModule"
    assert f"no module {module}, which train.py:7 asks for" in found.words
    assert f"pip install {package}" in found.next[0]
    assert found.evidence[-1] == f"ModuleNotFoundError: No module named '{module}'"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "environment that you submit from: python -m pip install h5py"),
        ({"python": {"interpreter_path": "/opt/py/bin/python"}}, "/opt/py/bin/python -m pip install h5py"),
        ({"conda": {"name": "torch"}}, "conda run -n torch python -m pip install h5py"),
        ({"conda": {"prefix": "/envs/t"}}, "conda run -p /envs/t python -m pip install h5py"),
        ({"conda": {"file": "env.yml"}}, "Add it to env.yml: the environment is made anew"),
        ({"conda": {"conda_packages": ["x"]}}, "Add it to environment.conda.conda_packages or pip_packages"),
        ({"apptainer": {"image": "torch.sif"}}, "%post of the definition that torch.sif was built from"),
        ({"modules": ["gcc"]}, "module spider h5py"),
    ],
)
def test_a_missing_module_is_added_where_the_environment_is(environment: Any, words: str) -> None:
    log = traceback("ModuleNotFoundError: No module named 'h5py'")
    assert words in all_words(failed(log, config={"environment": environment}))


@pytest.mark.parametrize(
    ("environment", "recipe"),
    [
        ({}, "requirements.txt"),
        ({"conda": {"name": "torch"}}, "environment.yml"),
        ({"apptainer": {"image": "x"}}, "a.def"),
    ],
)
def test_the_file_that_an_environment_is_made_of_is_named(environment: Any, recipe: str) -> None:
    log = traceback("ModuleNotFoundError: No module named 'h5py'")
    files = ("a.def", "environment.yml", "requirements.txt")
    found = failed(log, config={"environment": environment}, recipes=files)
    assert found.next[1] == f"And write h5py into {recipe}, so that an environment made of it has it."
    assert not [
        line for line in failed(log, config={"environment": environment}).next if "write h5py" in line
    ]


def test_a_module_that_is_in_the_code_but_not_on_the_path() -> None:
    log = traceback("ModuleNotFoundError: No module named 'models'")
    found = failed(log, modules=("src/lib/models/__init__.py", "train.py"))
    assert "src/lib/models" in found.words
    assert found.next == ["Have Python look there, in run.yaml: environment_variables: {PYTHONPATH: src/lib}"]


def test_python_m_of_a_missing_module() -> None:
    found = failed("/usr/bin/python3: No module named accelerate\n")
    assert (found.cause, "pip install accelerate" in found.next[0]) == ("MissingModule", True)


def test_imports_that_fail_otherwise() -> None:
    name = (
        "ImportError: cannot import name 'Mapping' from 'collections' (/usr/lib/python3.10/collections/x.py)"
    )
    assert failed(traceback(name)).cause == "ImportError"
    library = "ImportError: libcudart.so.11.0: cannot open shared object file: No such file or directory"
    found = failed(traceback(library))
    assert found.cause == "MissingLibrary" and "libcudart.so.11.0" in found.words


def test_every_distribution_differs_from_its_module() -> None:
    assert all(distribution(f"{module}.sub") for module in DISTRIBUTIONS)
    assert distribution("ruamel.yaml") == "ruamel.yaml"


@pytest.mark.parametrize(
    "error", ["NameError: name 'x' is not defined", "AttributeError: no 'y'", "KeyError"]
)
def test_an_exception_is_shown_where_the_script_has_it(error: str) -> None:
    """The last frame of the script's own, with the line as it stands in the run's copy of the code."""
    library = "/opt/env/lib/python3.11/site-packages/torch/nn/module.py"
    log = traceback(error, lines=(("train.py", 7, "main()"), ("net/a.py", 3, "old"), (library, 99, "raise")))
    found = failed(log, source=lambda path, line: f"    {path} line {line}" if path == "net/a.py" else None)
    assert found.cause == "ScriptError"
    assert found.words == f"The script failed with {error.partition(':')[0]} at net/a.py:3."
    assert found.evidence == ["net/a.py:3: net/a.py line 3", f"raised in {library}:99", error]
    assert found.next[0] == "Mend net/a.py:3 and submit again."


def test_the_last_exception_counts() -> None:
    """Of a chain the last; of several attempts the last; one that goes on for lines by its first."""
    chain = (
        traceback("KeyError: 'a'")
        + "\nDuring handling of the above exception, another exception occurred:\n\n"
        + traceback("ValueError: first\nsecond")
    )
    assert failed(chain).evidence[-1] == "ValueError: first"


def test_a_syntax_error_has_no_head() -> None:
    log = f'  File "{CODE}/train.py", line 3\n    def f(:\n          ^\nSyntaxError: invalid syntax\n'
    assert failed(log).words == "The script failed with SyntaxError at train.py:3."


def test_torch_names_the_rank_in_front_of_each_line() -> None:
    log = "\n".join(f"[rank3]: {line}" for line in traceback("RuntimeError: shapes").splitlines())
    assert failed(log).evidence == ["train.py:7: main()", "RuntimeError: shapes"]


def test_the_rank_is_named_where_there_are_several() -> None:
    logs = (Log(2, traceback("ValueError: bad")), Log(0, "fine\n"))
    found = failed(logs=logs, processes=4)
    assert found.words == "The script of rank 2 failed with ValueError at train.py:7."
    assert found.next[1].endswith("--rank 2")


@pytest.mark.parametrize(
    ("error", "package"),
    [
        (
            "AttributeError: 'RoundTripLoader' object has no attribute 'comment_handling'",
            "ruamel.yaml>=0.15.35,<0.17.5",
        ),
        (
            "jwt.exceptions.DecodeError: It is required that you pass in a value for the"
            ' "algorithms" argument when calling decode().',
            "PyJWT<2.0.0",
        ),
    ],
)
def test_troubles_that_azure_ml_knew(error: str, package: str) -> None:
    assert package in failed(traceback(error)).next[0]


@pytest.mark.parametrize(
    ("name", "words"),
    [("data/train.csv", "looked up in the run's copy of source_directory"), ("/data/x", "(node1)")],
)
def test_a_missing_file(name: str, words: str) -> None:
    log = traceback(f"FileNotFoundError: [Errno 2] No such file or directory: '{name}'")
    found = failed(log, nodes="node1")
    assert found.cause == "FileMissing"
    assert f"did not find {name} at train.py:7" in found.words
    assert words in found.next[0]
    inside = failed(log, config={"environment": {"apptainer": {"image": "a.sif"}}})
    assert ("binds" in all_words(inside)) is name.startswith("/")


# -- what logs say ------------------------------------------------------------

LOGS = [
    (
        "GpuMemory",
        traceback(
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total"
            " capacity of 79.15 GiB of which 1.50 GiB is free."
        ),
        "smaller batch",
    ),
    ("GpuMemory", "jaxlib.xla: CUDA_ERROR_OUT_OF_MEMORY: out of memory\n", "smaller batch"),
    ("NoGpu", traceback("RuntimeError: No CUDA GPUs are available"), "--gpus-per-node 1"),
    (
        "Nccl",
        traceback(
            "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1970, unhandled system"
            " error\nncclSystemError: System call (e.g. socket, malloc) or external library call failed"
        ),
        "NCCL_DEBUG: INFO",
    ),
    (
        "Nccl",
        "[E ProcessGroupNCCL.cpp:563] [Rank 1] Watchdog caught collective operation timeout: WorkNCCL(…)\n",
        "--rank N",
    ),
    (
        "AddressInUse",
        traceback(
            "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network"
            " address. port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address in use"
        ),
        "$MASTER_PORT",
    ),
    ("AddressInUse", traceback("OSError: [Errno 98] Address already in use"), "$MASTER_PORT"),
    ("DiskFull", traceback("OSError: [Errno 28] No space left on device: 'model.pt'"), "df -h"),
    ("DiskFull", "cp: error writing 'x': No space left on device\n", "df -h"),
    ("DiskFull", traceback("OSError: [Errno 122] Disk quota exceeded"), "quota -s"),
]


def test_aborted_at_its_very_end() -> None:
    """By a thread that nobody waited for; a crash in the middle is another matter."""
    words = "terminate called without an active exception\n"
    ended = {"reason": "Signal", "exit_code": 134}
    found = failed(f"epoch 4: loss 0.1\n{words}", **ended)
    assert found.cause == "Signal" and "os._exit()" in found.next[0]
    assert "PYTHONFAULTHANDLER" in failed(f"{words}more\n", **ended).next[0]
    assert "PYTHONFAULTHANDLER" in failed(words, reason="Signal", exit_code=139).next[0]


def test_a_message_that_came_within_mpi_init() -> None:
    """As Open MPI 5 with UCX's handler said it; the same function called later is another crash."""
    init = "10  /lib/x86_64-linux-gnu/libmpi.so.40(ompi_mpi_init+0x435) [0x7f4972703ad5]\n"
    log = (
        "[node1:17188:0:17188] Caught signal 11 (Segmentation fault: address not mapped to object at 0xe0)\n"
        "==== backtrace (tid:  17188) ====\n"
        " 3  /lib/x86_64-linux-gnu/libc.so.6(+0x3fd70) [0x7f4972ff6d70]\n"
        " 4  libmpi.so.40(mca_pml_ob1_recv_frag_callback_match+0xaa) [0x7f49728f973a]\n"
        f" 9  /lib/x86_64-linux-gnu/libopen-pal.so.80(opal_progress+0x84) [0x7f4972122d74]\n{init}"
    )
    ended = {"reason": "Signal", "exit_code": 139}
    assert "SLURM_PMIX_FENCE: ring" in failed(log, **ended).next[0]
    assert "PYTHONFAULTHANDLER" in failed(log.replace(init, ""), **ended).next[0]


@pytest.mark.parametrize(("cause", "log", "help_"), LOGS)
def test_what_logs_say(cause: str, log: str, help_: str) -> None:
    found = failed(log)
    assert found.cause == cause
    assert help_ in "\n".join(found.next)
    assert found.evidence and all(len(line) <= LONGEST + 2 for line in found.evidence)


def test_no_gpu_although_one_was_asked_for() -> None:
    found = failed(
        traceback("AssertionError: Torch not compiled with CUDA enabled"),
        config={"resources": {"gpus_per_node": 1}},
    )
    assert (found.cause, "nvidia-smi" in found.next[0]) == ("NoGpu", True)


def test_arguments_that_the_script_refused() -> None:
    log = "usage: train.py [-h]\n  [--lr LR]\ntrain.py: error: argument --lr: invalid float value: 'x'\n"
    found = failed(log, exit_code=2)
    assert found.cause == "Arguments"
    assert found.words == "The script refused its arguments: argument --lr: invalid float value: 'x'."


@pytest.mark.parametrize(
    ("line", "code", "cause", "words"),
    [
        (
            f"{CODE}/../job.sh: line 71: no-such: command not found",
            127,
            "ProgramMissing",
            "no program no-such",
        ),
        ("job.sh: line 71: exec: mpirun: not found", 127, "ProgramMissing", "no program mpirun"),
        (
            "/r/job.sh: line 9: /opt/py: No such file or directory",
            127,
            "ProgramMissing",
            "no program /opt/py",
        ),
        ("/r/job.sh: line 9: ./run: Permission denied", 126, "ProgramMissing", "./run cannot be run"),
        ("", 127, "ProgramMissing", "no such program"),
        (
            "./solver: error while loading shared libraries: libmkl_rt.so.2: cannot open shared object file:"
            " No such file or directory",
            127,
            "MissingLibrary",
            "libmkl_rt.so.2",
        ),
    ],
)
def test_a_program_that_is_not_there(line: str, code: int, cause: str, words: str) -> None:
    found = failed(line, exit_code=code)
    assert (found.cause, words in found.words) == (cause, True), found


# -- what the scheduler says --------------------------------------------------


def test_memory() -> None:
    """Slurm's own word for it, or what it says as it kills; bytes or KiB, the limit tells which."""
    said = (
        "slurmstepd: error: StepId=77.0 exceeded memory limit ({} > {}), being killed\n"
        "slurmstepd: error: Exceeded job memory limit\n"
    )
    for used, limit in ((430 * 1024**2, 100 * 1024**2), (430 * 1024, 100 * 1024)):
        found = failed(reason="Signal", exit_code=137, memory=100, system=said.format(used, limit))
        assert found.cause == "OutOfMemory"
        assert "Asked: 100M a node. It was at 430.0 MiB when it was ended." in found.words
        assert found.next[0] == "Ask for more: --mem 700M"
    killed = (
        "slurmstepd: error: Detected 1 oom_kill event in StepId=77.0. Some of the step tasks have been OOM"
    )
    assert "oom_kill" in failed(system=killed, memory=8192).evidence[0]
    plain = failed(reason="OutOfMemory", exit_code=137, config={"resources": {"memory_per_cpu": "2G"}})
    assert "resources.memory_per_cpu was 2G" in plain.next[0]
    assert "sacct -j 77" in plain.next[1]
    seen = failed(reason="OutOfMemory", exit_code=137, usage={"max_rss_bytes": 3 << 30})
    assert "The most that Slurm saw one of its tasks take is 3.0 GiB." in seen.words
    assert not [line for line in seen.next if "sacct" in line]


def test_memory_that_python_was_refused() -> None:
    error = "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8.00 GiB for an array"
    found = failed(traceback(error), memory=2048)
    assert found.cause == "OutOfMemory"
    assert found.words == "The script got no more memory at train.py:7. Asked: 2G a node."


def test_time() -> None:
    found = failed(reason="Timeout", exit_code=143, time_limit=3600, elapsed=3607.0)
    assert found.words == "The run was ended by its time limit of 1h, after 1h 7s."
    assert found.next[0] == "Ask for more time: --time 02:00:00"
    assert "resume_from=abcdefgh" in found.next[-1]
    said = "slurmstepd: error: *** JOB 77 ON node1 CANCELLED AT 2026-01-31T12:00:00 DUE TO TIME LIMIT ***"
    assert failed(system=said).cause == "Timeout"


@pytest.mark.parametrize(
    ("reason", "cause", "words"),
    [
        ("NodeFail", "NodeFail", "node7"),
        ("BootFail", "NodeFail", "did not boot"),
        ("Preempted", "Preempted", "to make room"),
        ("Revoked", "Revoked", "federation"),
        ("Deadline", "Deadline", "deadline"),
        ("Environment", "Environment", "there is no interpreter"),
        ("LaunchFailed", "LaunchFailed", "there is no interpreter"),
        ("Rejected", "Rejected", "there is no interpreter"),
        ("Lost", "Lost", "sacct -j 77"),
    ],
)
def test_ends_that_have_a_reason(reason: str, cause: str, words: str) -> None:
    """A reason goes before whatever the log holds."""
    log = "" if reason == "Lost" else traceback("ValueError: x")
    found = failed(log, reason=reason, message="there is no interpreter", nodes="node7", exit_code=None)
    assert found.cause == cause
    assert words in all_words(found)
    assert found.next


def test_a_refusal_has_the_hint_that_it_had() -> None:
    assert (
        failed(reason="Rejected", message="Invalid account", hint="Your accounts: x")
        .next[0]
        .startswith("Your")
    )


def test_a_process_of_this_machine_that_is_gone() -> None:
    assert "process is gone" in failed(reason="NodeFail", slurm=False).words


def test_the_runs_folder() -> None:
    assert failed(reason="LaunchFailed", exit_code=101, code=False).cause == "FolderMissing"
    assert failed(reason="LaunchFailed", exit_code=0, folder=False, code=False).cause == "FolderMissing"
    said = failed(reason="LaunchFailed", system="hpcrun: there is no folder /scratch/x/code\n")
    assert said.evidence[0] == "hpcrun: there is no folder /scratch/x/code"
    assert failed("bye\n", exit_code=101).cause == "BadExit"


def test_a_run_that_another_job_had() -> None:
    said = "2026-01-31T12:00:00Z hpcrun: job 78 leaves: the run belongs to job 77"
    assert failed(reason="LaunchFailed", exit_code=102, system=said).cause == "Taken"
    assert failed("bye\n", exit_code=102).cause == "BadExit"


@pytest.mark.parametrize(
    ("code", "name", "words"),
    [(137, "SIGKILL", "memory"), (139, "SIGSEGV", "PYTHONFAULTHANDLER"), (143, "SIGTERM", "asked it to end"),
     (166, "38", "said last")],
)  # fmt: skip
def test_signals(code: int, name: str, words: str) -> None:
    found = failed("begun\n", reason="Signal", exit_code=code)
    assert (found.cause, found.evidence) == ("Signal", ["begun"])
    assert f"signal {name}" in found.words and words in all_words(found)


def test_any_other_end_is_shown_by_its_last_lines() -> None:
    found = failed("\n".join(f"line {number}" for number in range(50)), exit_code=3)
    assert (found.cause, len(found.evidence), found.evidence[-1]) == ("BadExit", 10, "line 49")
    assert "exit code 3" in found.words
    assert "had printed nothing" in failed("", exit_code=3).words


def test_a_run_that_completed() -> None:
    found = explain(Facts(RUN, RunState.COMPLETED, elapsed=360.0, time_limit=36000))
    assert (found.cause, found.evidence) == ("Completed", [])
    assert "6m of the 10h asked for, 1 %" in found.words
    assert found.next == ["A shorter limit is scheduled sooner: --time 00:10:00 would do."]
    assert explain(Facts(RUN, RunState.COMPLETED)).next == []
    assert explain(Facts(RUN, RunState.CANCELED, reason="Canceled")).cause == "Canceled"


@pytest.mark.parametrize(
    ("log", "words", "limit"),
    [
        (
            "step 1 of 9\nEpoch 5/20, batch 3/4\n",
            "had come to epoch 5 of 20: all of it takes about 4h.",
            "04:25:00",
        ),
        ("[step: 40 of 50] loss 1\n", "had come to step 40 of 50: all of it takes about 1h 15m.", "02:00:00"),
    ],
)
def test_how_far_a_run_came_in_its_time(log: str, words: str, limit: str) -> None:
    """By its own words, where it counts its steps; what it said last is shown in any case."""
    found = failed(log, reason="Timeout", elapsed=3600.0, time_limit=3600)
    assert words in found.words
    assert found.next[0] == f"Ask for more time: --time {limit}"
    assert found.evidence[-1] == log.splitlines()[-1]


@pytest.mark.parametrize(
    "log", ["", "loss 1/2\n", "epoch 0/5\n", "epoch 5/5\n", "2026/01/31\n", "steps 1 of 2\n"]
)
def test_what_is_no_count_of_steps(log: str) -> None:
    found = failed(log, reason="Timeout", elapsed=3600.0, time_limit=3600)
    assert "come to" not in found.words and found.evidence == log.splitlines()


# -- odd logs -----------------------------------------------------------------


@pytest.mark.parametrize(
    "log",
    ["x" * 300_000, "\n" * 100_000, "Traceback (most recent call last):\n" * 20_000, 'File "' * 50_000,
     '  File "a", line 1\n' * 20_000, "a: " * 90_000, "\0\ufffd" * 100_000, "SyntaxError: x\n" * 20_000,
     "Traceback (most recent call last):\n  File"],
)  # fmt: skip
def test_odd_logs(log: str) -> None:
    for code in (1, 2, 126, 127, 137):
        found = failed(log, exit_code=code, system=log)
        assert all(len(line) <= LONGEST + 50 for line in found.evidence), found
        assert len(found.words) < 2000


def test_a_traceback_is_only_read_where_there_is_one() -> None:
    assert read_traceback("all is well\n") is None
    assert read_traceback('Traceback (most recent call last):\n  File "a.py", line 1, in f\n') is None
