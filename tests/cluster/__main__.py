"""python -m tests.cluster up | shell HOST | status | down | build"""

from __future__ import annotations

import argparse
import os
import sys

from tests.cluster import image, instance, rootfs
from tests.cluster.cluster import Cluster
from tests.cluster.host import login_environment
from tests.cluster.options import Options
from tests.cluster.procs import ClusterError
from tests.cluster.rootfs import SUITES, USERS, say
from tests.cluster.support import unsupported_reason


def _up(args: argparse.Namespace) -> None:
    kept = [each.number for each in instance.instances() if each.owner is None]
    if kept and not args.another:
        say(f"cluster {kept[0]} is up already; --another boots one more")
        return
    options = Options(slurm=args.slurm, nodes=args.nodes, accounting=not args.no_accounting)
    cluster = Cluster.boot(options, keep=True)
    number = "" if not kept else f" --number {cluster.number}"
    say(f"up: cluster {cluster.number}, files in {cluster.folder}, logs in {cluster.logs}")
    say(f"  a shell:    python -m tests.cluster shell login{number}")
    say(f"  over SSH:   {' '.join(cluster.ssh_argv())}")
    say(f"  take down:  python -m tests.cluster down{number}")


def _shell(args: argparse.Namespace) -> None:
    cluster = Cluster.attach(args.number)
    if args.host not in cluster.hosts:
        raise ClusterError(f"no host {args.host!r}; there are {', '.join(cluster.hosts)}")
    shell = ["bash", "--login"]
    if sys.stdin.isatty():
        # This machine's terminal has no name in the host; script(1) makes one there.
        shell = ["script", "--quiet", "--command", "bash --login", "/dev/null"]
    argv = cluster.hosts[args.host].argv(shell, args.user, None)
    environment = login_environment(args.user)
    os.execvpe(argv[0], argv, {**environment, "TERM": os.environ.get("TERM", "dumb")})


def _status(args: argparse.Namespace) -> None:
    found = instance.instances()
    if not found:
        say("no cluster is up")
    for each in found:
        owner = "kept" if each.owner is None else f"of process {each.owner.pid}"
        owner = "left by a dead process" if each.stale() else owner
        hosts = [f"{host}{'' if init.alive() else ' (dead)'}" for host, init in each.inner.items()]
        print(f"cluster {each.number} ({each.options.slurm}, {owner}): {', '.join(hosts)}")
        print(f"  logs: {each.folder / 'logs'}")


def _down(args: argparse.Namespace) -> None:
    gone = instance.clean_stale()
    for each in instance.instances():
        # Without a number only kept ones: those of a running test are its own to end.
        if each.number == args.number or (args.number is None and each.owner is None):
            instance.destroy(each)
            gone.append(each.number)
    say(f"taken down: {', '.join(map(str, gone))}" if gone else "no cluster is up")


def _build(args: argparse.Namespace) -> None:
    rootfs.ensure_host_packages()
    root = rootfs.rootfs(args.slurm)
    say(f"root file system: {root}")
    say(f"container images: {image.images(root)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description="A virtual Slurm cluster.")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    up = verbs.add_parser("up", help="boot a cluster and leave it running")
    up.add_argument("--nodes", type=int, default=3)
    up.add_argument("--no-accounting", action="store_true", help="without slurmdbd")
    up.add_argument("--another", action="store_true", help="even if one is up")
    up.set_defaults(do=_up)
    shell = verbs.add_parser("shell", help="open a shell on a host")
    shell.add_argument("host", metavar="HOST", help="ctl, login, node1, ...")
    shell.add_argument("--user", default="alice", choices=[*USERS, "root"])
    shell.set_defaults(do=_shell)
    verbs.add_parser("status", help="say which clusters are up").set_defaults(do=_status)
    down = verbs.add_parser("down", help="take down what 'up' booted and what the dead left")
    down.set_defaults(do=_down)
    build = verbs.add_parser("build", help="only build the root file system and the images")
    build.set_defaults(do=_build)
    for verb in (up, build):
        verb.add_argument("--slurm", choices=SUITES, default="trixie", help="Debian suite to take Slurm from")
    for verb in (shell, down):
        verb.add_argument("--number", type=int, help="which cluster, if there are several")
    return parser


def main() -> int:
    """Do what the command line asks; the exit code."""
    args = _parser().parse_args()
    reason = unsupported_reason()
    if reason:
        say(reason)
        return 1
    try:
        args.do(args)
    except ClusterError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
