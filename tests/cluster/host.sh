#!/bin/sh
# Turn this process into a host: a root of its own over the shared one, its own
# /proc, /dev and network.  Runs in fresh mount, pid, uts and net namespaces as:
#
#   host.sh FOLDER NAME ADDRESS LOWER GPUS [ro|rw SOURCE TARGET]...
#
# FOLDER holds the host's upper/, work/ and root/; LOWER is the shared root.
set -eu
umask 022
folder=$1 name=$2 address=$3 lower=$4 gpus=$5
shift 5
root=$folder/root

device() { # NAME TYPE MAJOR MINOR; 666 because /dev/fuse must be open to all
    mknod -m 666 "$root/dev/$1" "$2" "$3" "$4"
}

mount -t overlay overlay -o "lowerdir=$lower,upperdir=$folder/upper,workdir=$folder/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 dev "$root/dev"
mount -t tmpfs -o mode=755 run "$root/run"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"

device null c 1 3
device zero c 1 5
device full c 1 7
device random c 1 8
device urandom c 1 9
device tty c 5 0
device fuse c 10 229
gpu=0
while [ "$gpu" -lt "$gpus" ]; do
    device "gpu$gpu" c 1 3 # a second /dev/null: Slurm only wants the file to exist
    gpu=$((gpu + 1))
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"

while [ "$#" -ge 3 ]; do
    mode=$1 source=$2 target=$3
    shift 3
    if [ -d "$source" ]; then
        mkdir -p "$root$target"
    else
        mkdir -p "$(dirname "$root$target")"
        : >"$root$target"
    fi
    # Users must get down to it: /root, say, is closed.  Only folders of our own are
    # opened here; the machine's are bound below, and never one beneath another.
    above=$(dirname "$target")
    while [ "$above" != / ]; do
        chmod a+rx "$root$above"
        above=$(dirname "$above")
    done
    mount --bind "$source" "$root$target"
    [ "$mode" = rw ] || mount -o remount,bind,ro "$root$target"
done

mkdir -p "$root/run/munge" "$root/run/mysqld" "$root/run/slurm" "$root/run/sshd"
ln -s mysqld "$root/run/mariadbd" # newer MariaDBs have their socket there
hostname "$name"
until ip link show dev eth0 >/dev/null 2>&1; do
    sleep 0.01 # it is plugged in from outside
done
ip link set dev lo up
ip address add "$address/24" dev eth0
ip link set dev eth0 up

# pivot_root, not chroot: user namespaces, and so Apptainer, are refused in a chroot.
cd "$root"
mkdir -p .outside
pivot_root . .outside
cd /
umount -l /.outside
rmdir /.outside

chown munge:munge /run/munge
chown mysql:mysql /run/mysqld
chown slurm:slurm /run/slurm
mkdir -p /var/spool/slurmctld /var/spool/slurmd
chown slurm:slurm /var/spool/slurmctld
setpriv --reuid=munge --regid=munge --init-groups munged
# tini buries what daemons and jobs leave behind.
exec tini -s -- sleep infinity
