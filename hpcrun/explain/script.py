"""What the script's own log tells: exceptions, GPUs, NCCL, disks, files, arguments."""

from __future__ import annotations

import re

from hpcrun.explain.facts import Explanation, Facts, Log, cut, last_line, tail
from hpcrun.explain.tracebacks import Traceback, own_frame, place, read_traceback, shown
from hpcrun.units import Memory

_GPU_MEMORY = re.compile(
    r"CUDA out of memory|CUDA error: out of memory|CUDA_ERROR_OUT_OF_MEMORY|HIP out of memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED|torch\.(?:cuda\.)?OutOfMemoryError"
)
_NO_GPU = re.compile(
    r"No CUDA GPUs are available|no CUDA-capable device is detected|Torch not compiled with CUDA enabled"
    r"|Found no NVIDIA driver"
)
_NCCL = re.compile(
    r"NCCL error|ncclUnhandledCudaError|ncclSystemError|ncclInternalError|ncclRemoteError|ncclInvalidUsage"
    r"|Watchdog caught collective operation timeout|\bNCCL WARN\b|DistBackendError"
)
_ADDRESS = re.compile(r"Address already in use|EADDRINUSE|\[Errno 98\]")
_DISK = re.compile(r"No space left on device|\[Errno 28\]|\bENOSPC\b")
_QUOTA = re.compile(r"Disk quota exceeded|\[Errno 122\]|\bEDQUOT\b")
_NO_FILE = re.compile(r"No such file or directory: '([^']{1,1000})'")
_USAGE = re.compile(r"\S+: error: (.+)")
_BASH = re.compile(
    r"line \d+: (.{1,500}?): (?:command )?(not found|No such file or directory|Permission denied)"
)
_LOADER = re.compile(r"(?:error while loading shared libraries: )(\S+): cannot open shared object file")

_CALL = re.compile(r"^hpcrun: (?:the |cloudpickle)")

# The seed's own cases: what Azure ML's users met, and may meet here where they bring azureml-core along.
_KNOWN = (
    (
        re.compile(r"'RoundTripLoader' object has no attribute 'comment_handling'"),
        "ruamel.yaml is too new for azureml-core.",
        "ruamel.yaml>=0.15.35,<0.17.5",
    ),
    (
        re.compile(r'value for the "algorithms" argument when calling decode\(\)'),
        "PyJWT is too new for azureml-core.",
        "PyJWT<2.0.0",
    ),
)


def _last_words(log: Log) -> str:
    """Where to look for what ended a process: not in what it said long before."""
    return log.text[-30_000:]


def _log_with(facts: Facts, pattern: re.Pattern[str]) -> tuple[Log, str] | None:
    """The first log, in the order of failing, that has the pattern near its end, and the line."""
    for log in facts.telling_logs:
        line = last_line(_last_words(log), pattern)
        if line is not None:
            return log, line
    return None


def _evidence(facts: Facts, log: Log, line: str) -> list[str]:
    found = read_traceback(log.text)
    lines = shown(facts, found) if found is not None else []
    return lines if line in lines else [*lines, line]


def _on(facts: Facts, log: Log) -> str:
    who = facts.whose(log)
    return f" ({who})" if who else ""


def gpu_memory_rule(facts: Facts) -> Explanation | None:
    hit = _log_with(facts, _GPU_MEMORY)
    if hit is None:
        return None
    log, line = hit
    return Explanation(
        "GpuMemory",
        f"A GPU had no memory left{_on(facts, log)}: what the script put on it did not fit.",
        _evidence(facts, log, line),
        [
            "Put less on each GPU: a smaller batch, gradient accumulation, mixed precision, checkpointing.",
            "Or ask for a GPU with more memory (resources.gpus_per_node: TYPE:COUNT; the types:"
            " sinfo -o '%P %G'), or spread the model over more of them.",
            "If much is reserved and little allocated: environment_variables:"
            " {PYTORCH_CUDA_ALLOC_CONF: 'expandable_segments:True'}",
        ],
    )


def no_gpu_rule(facts: Facts) -> Explanation | None:
    hit = _log_with(facts, _NO_GPU)
    if hit is None:
        return None
    log, line = hit
    asked = facts.section("resources").get("gpus_per_node")
    if asked:
        help_ = [
            "GPUs were asked for, so see that the framework in the run's environment is a CUDA build"
            " that fits the driver: nvidia-smi, on a node.",
        ]
    else:
        help_ = ["The run asked for no GPU: hpcrun submit … --gpus-per-node 1"]
    return Explanation(
        "NoGpu", f"The script found no GPU{_on(facts, log)}.", _evidence(facts, log, line), help_
    )


def nccl_rule(facts: Facts) -> Explanation | None:
    hit = _log_with(facts, _NCCL)
    if hit is None:
        return None
    log, line = hit
    return Explanation(
        "Nccl",
        f"NCCL, which carries data between GPUs, failed{_on(facts, log)}. Often another rank had ended or"
        " hung before, or the network interface is not the right one.",
        _evidence(facts, log, line),
        [
            f"Look at what each rank said last: hpcrun logs {facts.short} --rank N --tail 20",
            "Submit again with environment_variables: {NCCL_DEBUG: INFO}, which names interface and peer.",
            "If it is the interface: NCCL_SOCKET_IFNAME belongs into the site's file; ask the site's people.",
        ],
    )


def address_rule(facts: Facts) -> Explanation | None:
    hit = _log_with(facts, _ADDRESS)
    if hit is None:
        return None
    log, line = hit
    return Explanation(
        "AddressInUse",
        f"The script wanted a port on which something else listens already{_on(facts, log)}.",
        _evidence(facts, log, line),
        [
            "Use the port that hpcrun has chosen for the run, $MASTER_PORT, and none written into the script;"
            " only rank 0 may listen on it.",
            "If it was that port: submit again, the next job gets another.",
        ],
    )


def disk_rule(facts: Facts) -> Explanation | None:
    """ENOSPC and EDQUOT, in the script's log or in the job's."""
    for pattern, words, help_ in (
        (_QUOTA, "Your disk quota is used up", "What you use: quota -s (or the site's own command)"),
        (_DISK, "A disk was full", "What is full, on the node or on the file system: df -h DIR"),
    ):
        hit = _log_with(facts, pattern)
        line = hit[1] if hit else last_line(facts.system, pattern)
        if line is None:
            continue
        log = hit[0] if hit else Log(None, "")
        return Explanation(
            "DiskFull",
            f"{words}{_on(facts, log)}: the script could not write.",
            _evidence(facts, log, line),
            [
                help_,
                "Outputs of earlier runs take room in .hpcrun/runs, or in the site's root.",
                "Write what is large and temporary to the node's own disk, $TMPDIR, or to scratch.",
            ],
        )
    return None


def python_memory_rule(facts: Facts) -> Explanation | None:
    """MemoryError: the script was refused memory, rather than killed for it."""
    log = facts.first_log
    found = read_traceback(log.text)
    if found is None or not found.name.endswith("MemoryError"):
        return None
    asked = f" Asked: {Memory(facts.memory).slurm} a node." if facts.memory else ""
    return Explanation(
        "OutOfMemory",
        f"{_subject(facts)} got no more memory{_at(facts, found)}.{asked}",
        shown(facts, found),
        ["Ask for more: --mem, or resources.memory in run.yaml.", "Or take less: data read in parts."],
    )


def no_file_rule(facts: Facts) -> Explanation | None:
    found = read_traceback(facts.first_log.text)
    if found is None or found.name != "FileNotFoundError":
        return None
    match = _NO_FILE.search(found.message)
    name = match.group(1) if match else ""
    return Explanation(
        "FileMissing",
        f"{_subject(facts)} did not find {name or 'a file'}{_at(facts, found)}.",
        shown(facts, found),
        _where_files_are(facts, name),
    )


def _where_files_are(facts: Facts, name: str) -> list[str]:
    if name.startswith("/"):
        node = f" ({facts.nodes})" if facts.nodes else ""
        found = [f"See that {cut(name)} is there on the compute nodes{node}, not only where you submit from."]
        if facts.section("environment").get("apptainer"):
            found.append("A container sees only what is bound into it: environment.apptainer.binds")
        return found
    return [
        "A path that begins without / is looked up in the run's copy of source_directory: see that the file"
        " is in there and that no .hpcrunignore, .amlignore or .gitignore leaves it out.",
        "Data does not belong into the snapshot: hand the script an absolute path, as an argument.",
        "outputs/ and logs/ of the source are left out of a snapshot; of an earlier run, take resume_from.",
    ]


def function_rule(facts: Facts) -> Explanation | None:
    """What hpcrun's own program says that calls a function, where the call or its result will not do."""
    hit = _log_with(facts, _CALL) if facts.section("function") else None
    if hit is None:
        return None
    log, line = hit
    words = line.partition("hpcrun: ")[2]
    return Explanation(
        "Function",
        f"{words[:1].upper()}{words[1:]}{_on(facts, log)}.",
        [],
        [f"All that was printed: hpcrun logs {facts.short}{_rank(log)}"],
    )


def exception_rule(facts: Facts) -> Explanation | None:
    """NameError, AttributeError and every other exception that nobody caught."""
    log = facts.first_log
    found = read_traceback(log.text)
    if found is None or found.name in ("KeyboardInterrupt", "SystemExit"):
        return None
    for pattern, words, package in _KNOWN:
        if pattern.search(found.message):
            return Explanation(
                "ScriptError", words, shown(facts, found), [f"python -m pip install '{package}'"]
            )
    own = own_frame(facts, found)
    mend = f"Mend {place(own)} and submit again." if own is not None else "Mend it and submit again."
    return Explanation(
        "ScriptError",
        f"{_subject(facts)} failed with {found.name}{_at(facts, found)}.",
        shown(facts, found),
        [mend, f"The whole traceback: hpcrun logs {facts.short}{_rank(log)}"],
    )


def _subject(facts: Facts) -> str:
    who = facts.whose(facts.first_log)
    what = "The function" if facts.section("function") else "The script"
    return f"{what} of {who}" if who else what


def _at(facts: Facts, found: Traceback) -> str:
    own = own_frame(facts, found)
    return "" if own is None else f" at {place(own)}"


def _rank(log: Log) -> str:
    return "" if log.rank is None else f" --rank {log.rank}"


def arguments_rule(facts: Facts) -> Explanation | None:
    """What argparse and click say before they exit with 2."""
    if facts.exit_code != 2:
        return None
    text = _last_words(facts.first_log)
    lines = [line for line in text.splitlines() if line.strip()][-30:]
    if not any(line.lower().startswith("usage: ") for line in lines):
        return None
    match = _USAGE.match(lines[-1]) or re.match(r"Error: (.+)", lines[-1])
    if match is None:
        return None
    return Explanation(
        "Arguments",
        f"The script refused its arguments: {cut(match.group(1)).rstrip('.')}.",
        [cut(lines[-1])],
        ["Give it others: hpcrun submit run.yaml -- ARGUMENTS, or arguments in run.yaml."],
    )


def program_rule(facts: Facts) -> Explanation | None:
    """127 and 126: what was to be run is not there, or cannot be run."""
    if facts.exit_code not in (126, 127):
        return None
    for text in (*(_last_words(log) for log in facts.telling_logs), facts.system):
        loader = _LOADER.search(text)
        if loader is not None:
            return Explanation(
                "MissingLibrary",
                f"The shared library {loader.group(1)} was not found.",
                [cut(loader.group(0))],
                ["Load the module that has it, in run.yaml: environment: {modules: […]}"],
            )
        line = last_line(text, _BASH)
        match = _BASH.search(line or "")
        if line is not None and match is not None:
            return _no_program(facts, match.group(1).rpartition(": ")[2] or match.group(1), line)
    return _no_program(facts, "", "") if facts.exit_code == 127 else None


def _no_program(facts: Facts, program: str, line: str) -> Explanation:
    if facts.exit_code == 126:
        return Explanation(
            "ProgramMissing",
            f"{program} cannot be run: it is not executable.",
            [line],
            ["Make it executable before you submit: chmod +x FILE; or name its interpreter in the command."],
        )
    called = f"no program {program}" if program else "no such program"
    help_ = [
        "Name it by its whole path, or see that environment (conda, modules, setup) brings it onto PATH."
    ]
    if facts.slurm:
        help_.append("What the login node has, compute nodes may not have: srun -p PARTITION which PROGRAM")
    return Explanation(
        "ProgramMissing",
        f"There was {called} where the run ran.",
        [line] if line else tail(facts.first_log.text, 3),
        help_,
    )
