"""Can this machine hold a cluster at all?"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

from tests.cluster.procs import CommandError, call

_PROBE = ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "mount", "-t", "tmpfs"]


@functools.cache
def unsupported_reason() -> str | None:
    """Why no cluster can be booted here, in words for a person; None when one can."""
    if os.geteuid() != 0:
        return "the virtual cluster needs root"
    if not Path("/etc/debian_version").exists() or shutil.which("apt-get") is None:
        return "the virtual cluster needs Debian: its root is built with apt and debootstrap"
    try:
        call([*_PROBE, "probe", "/mnt"], timeout=20)
    except (CommandError, FileNotFoundError, subprocess.TimeoutExpired) as error:
        return f"namespaces and mounts are not permitted here: {error}"
    return None
