"""The text of every configuration file of a cluster: values in, text out."""

from __future__ import annotations

from tests.cluster.options import Options, address

LOGS = "/var/log/cluster"


def slurm_settings(options: Options) -> dict[str, str]:
    """The key=value lines of slurm.conf, the caller's own on top."""
    settings = {
        "ClusterName": "virtual",
        "SlurmctldHost": "ctl",
        "AuthType": "auth/munge",
        "SlurmUser": "slurm",
        "StateSaveLocation": "/var/spool/slurmctld",
        "SlurmdSpoolDir": "/var/spool/slurmd",
        "SlurmctldPidFile": "/run/slurm/slurmctld.pid",
        "SlurmdPidFile": "/run/slurm/slurmd.pid",
        "SlurmctldLogFile": f"{LOGS}/slurmctld.log",
        "SlurmdLogFile": f"{LOGS}/slurmd.%n.log",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU_Memory",
        "DefMemPerCPU": "250",
        "GresTypes": "gpu",
        "ReturnToService": "2",
        # The nodes claim more than the machine has; without this they are "inval".
        "SlurmdParameters": "config_overrides",
        "JobRequeue": "1",
        "PreemptType": "preempt/partition_prio",
        "PreemptMode": "REQUEUE",
        # Short waits, so that what takes minutes at a site takes seconds in a test.
        "SchedulerParameters": "batch_sched_delay=0,sched_min_interval=0,bf_interval=1",
        "MessageTimeout": "5",
        "KillWait": "5",
        "SlurmdTimeout": "20",
        "MinJobAge": "10",
        "JobAcctGatherType": "jobacct_gather/linux",
        "JobAcctGatherFrequency": "1",
        # Without cgroups this is what ends a job that takes too much memory.
        "JobAcctGatherParams": "OverMemoryKill",
    }
    if options.accounting:
        settings |= {
            "AccountingStorageType": "accounting_storage/slurmdbd",
            "AccountingStorageHost": "ctl",
            "AccountingStorageTRES": "gres/gpu",
            "AccountingStorageEnforce": "associations,limits,qos",
        }
    return {**settings, **options.slurm_conf}


def slurm_conf(settings: dict[str, str], options: Options, number: int) -> str:
    """slurm.conf: the settings, then nodes and partitions."""
    lines = [f"{key}={value}" for key, value in settings.items()]
    gres = f" Gres=gpu:fake:{options.gpus}" if options.gpus else ""
    lines += [
        f"NodeName={node} NodeAddr={address(number, node)} CPUs={options.cpus}"
        f" RealMemory={options.memory}{gres} State=UNKNOWN"
        for node in options.node_names
    ]
    usual = "Nodes=ALL State=UP PriorityTier=10 PreemptMode=OFF"
    lines += [
        f"PartitionName=main Default=YES MaxTime=1-00:00:00 DefaultTime=00:10:00 {usual}",
        f"PartitionName=short MaxTime=00:10:00 {usual}",
        "PartitionName=preempt Nodes=ALL State=UP PriorityTier=1 PreemptMode=REQUEUE MaxTime=1:00:00",
    ]
    return "\n".join(lines) + "\n"


def gres_conf(options: Options) -> str:
    """gres.conf: device files that exist on every host and do nothing."""
    if not options.gpus:
        return ""
    return f"Name=gpu Type=fake File=/dev/gpu[0-{options.gpus - 1}]\n"


def cgroup_conf(options: Options) -> str:
    """cgroup.conf: no cgroups; Slurm 22.05 has no word for that."""
    return "CgroupPlugin=cgroup/v1\n" if options.slurm == "bookworm" else "CgroupPlugin=disabled\n"


def slurmdbd_conf() -> str:
    """slurmdbd.conf; the database knows user slurm by the socket, without a password."""
    return f"""\
AuthType=auth/munge
DbdHost=ctl
SlurmUser=slurm
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StorageLoc=slurm_acct_db
MessageTimeout=5
LogFile={LOGS}/slurmdbd.log
PidFile=/run/slurm/slurmdbd.pid
"""


def mariadb_init() -> str:
    """SQL that mariadbd runs at every start."""
    return """\
CREATE DATABASE IF NOT EXISTS slurm_acct_db;
CREATE USER IF NOT EXISTS slurm@localhost IDENTIFIED VIA unix_socket;
GRANT ALL ON slurm_acct_db.* TO slurm@localhost;
"""


def sshd_config() -> str:
    """sshd_config: keys only; a test's own lines, which win, come first."""
    return """\
Include /etc/ssh/sshd_config.d/*.conf
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
"""


#: sshd_config lines that ask for a code after the key, and what PAM does with it.
ONE_TIME_CODE_SSHD = (
    "UsePAM yes",
    "KbdInteractiveAuthentication yes",
    "AuthenticationMethods publickey,keyboard-interactive",
)
ONE_TIME_CODE_PAM = """\
auth required pam_exec.so expose_authtok quiet /usr/local/sbin/take-code
auth required pam_permit.so
account required pam_permit.so
session required pam_permit.so
"""
ONE_TIME_CODE_CHECK = """\
#!/bin/sh
# A code is good once: it leaves the list as it is taken.
code=$(tr -d '\\0')
grep -qxF -e "$code" /run/one-time-codes || exit 1
grep -vxF -e "$code" /run/one-time-codes >/run/one-time-codes.left
mv /run/one-time-codes.left /run/one-time-codes
"""


def hosts_file(options: Options, number: int) -> str:
    """/etc/hosts, the same on every host, naming them all."""
    lines = ["127.0.0.1 localhost"]
    lines += [f"{address(number, host)} {host}" for host in options.hosts]
    return "\n".join(lines) + "\n"
