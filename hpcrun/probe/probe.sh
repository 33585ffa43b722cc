# What hpcrun asks a site: one POSIX script, one answer (hpcrun/probe/answers.py reads it).
#
#   $1  "slurm", or "local" for a site without a scheduler
#   $2  the site's root as its file has it, or nothing
#   $3  conda's root as the site's file has it, or nothing
#   $4  the program that runs containers, as the site's file has it, or nothing
#
# Every question is bounded, in time where there is timeout(1), and in what it may say. A command that is
# missing is an answer. The answer to a question is "= NAME", lines behind a blank each, ". EXIT-CODE".
kind=$1 root=$2 conda=$3 container=$4 most=524288

limited() { # SECONDS COMMAND...: no longer than that, and not waiting for anybody to type
    seconds=$1
    shift
    if [ -n "$limit" ]; then
        timeout -k 1 "$seconds" "$@" </dev/null
    else
        "$@" </dev/null
    fi
}

ask() { # NAME SECONDS COMMAND...
    name=$1 seconds=$2
    shift 2
    printf '\n= %s\n' "$name"
    if ! command -v "$1" >/dev/null 2>&1; then
        printf '. 127\n'
        return
    fi
    # What the pipe says goes to 4, so that the exit code alone comes back.
    code=$({ { limited "$seconds" "$@" 2>&1 3>&- 4>&-; echo "$?" >&3; } |
        head -c "$most" | sed 's/^/ /' >&4; } 3>&1)
    printf '\n. %s\n' "$code"
}

tell() { # NAME LINE...
    printf '\n= %s\n' "$1"
    shift
    for line in "$@"; do
        printf '%s\n' "$line" | head -c 4096 | sed 's/^/ /'
    done
    printf '\n. 0\n'
}

in_login_shell() { # SECONDS SOURCE: what a login shell prints that runs it
    # By way of a file: a program that the profile leaves behind would hold a pipe open for as long as it lives.
    [ -n "$scrap" ] || return 1
    limited "$1" bash -lc "$2" >"$scrap" 2>&1 4>&-
    said=$?
    head -c "$most" "$scrap"
    return "$said"
}

of_login() { # NAME
    printf '%s\n' "$login" | sed -n "s/^@$1=//p" | tail -n 1
}

look() { # NAME PATH: type, device, size and space of the file system of a folder, or of what is above it
    near=$2
    while [ ! -d "$near" ] && [ "$near" != / ] && [ -n "$near" ]; do near=$(dirname "$near"); done
    there=no writable=no
    [ -d "$2" ] && there=yes
    if [ "$there" = yes ]; then
        # Only writing tells of quotas and of full disks.
        file=$2/.hpcrun-probe.$$
        (umask 077 && printf 'written\n' >"$file") 2>/dev/null && [ -s "$file" ] && writable=yes
        rm -f "$file"
    elif [ -w "$near" ]; then
        writable=yes
    fi
    tell "folder:$1" "path=$2" "there=$there" "writable=$writable" \
        "type=$(limited 10 stat -f -c %T -- "$near" 2>/dev/null)" \
        "df=$(limited 10 df -P -k -- "$near" 2>/dev/null | tail -n 1)"
}

exec 4>&1
trap 'rm -f "$scrap"' EXIT
scrap=$(mktemp 2>/dev/null)
limit=''
timeout -k 1 5 true </dev/null 2>/dev/null && limit=yes
tell date "$(date +%s)"
# shellcheck disable=SC2016 # they are to be bash's, after the profile
login=$(in_login_shell 20 'for n in PATH SLURM_CONF LD_LIBRARY_PATH SCRATCH WORK CONDA_EXE MAMBA_EXE
    do printf "\n@%s=%s\n" "$n" "${!n}"; done')

# shellcheck disable=SC2153 # these are the user's variables
tell plain "path=$PATH" "scratch=$SCRATCH" "work=$WORK"
tell login "path=$(of_login PATH)" "scratch=$(of_login SCRATCH)" "work=$(of_login WORK)"
if [ "$kind" = slurm ] && ! command -v sbatch >/dev/null 2>&1; then
    PATH=$(of_login PATH):$PATH
    SLURM_CONF=$(of_login SLURM_CONF)
    LD_LIBRARY_PATH=$(of_login LD_LIBRARY_PATH)
    export PATH
    if [ -n "$SLURM_CONF" ]; then export SLURM_CONF; else unset SLURM_CONF; fi
    if [ -n "$LD_LIBRARY_PATH" ]; then export LD_LIBRARY_PATH; else unset LD_LIBRARY_PATH; fi
    if command -v sbatch >/dev/null 2>&1; then tell by_login yes; fi
fi

user=$(id -un)
tell user "$user"
tell groups "$(id -Gn)"
tell hostname "$(hostname 2>/dev/null || uname -n)"
tell system "$(uname -sm)" "$(sed -n 's/^PRETTY_NAME=//p' /etc/os-release 2>/dev/null | tr -d '"')"

if [ "$kind" = slurm ]; then
    ask slurm 10 sbatch --version
    ask partitions 20 scontrol --oneliner show partition
    ask nodes 20 sinfo --noheader --exact '--format=%R|%c|%m|%G'
    ask config 20 scontrol show config
    ask mpi 10 srun --mpi=list
    # One database may serve several clusters.
    cluster=$(limited 20 scontrol show config 2>/dev/null | sed -n 's/^ClusterName *= *//p' | head -n 1)
    ask accounts 15 sacctmgr --noheader --parsable2 show associations "user=$user" \
        ${cluster:+"cluster=$cluster"} format=account,partition,qos
    ask default_account 15 sacctmgr --noheader --parsable2 show user "$user" format=defaultaccount
    ask sacct 15 sacct --noheader --allocations --parsable2 --starttime=now-1hour --format=jobid
fi

ask git 10 git --version
ask rsync 10 rsync --version
ask python 10 python3 --version
ask bash 10 bash --version
ask apptainer 20 apptainer --version
ask singularity 20 singularity --version
if [ -n "$container" ]; then ask container 20 "$container" --version; fi
if [ "$kind" = slurm ]; then
    modules=$(in_login_shell 30 'command -v module >/dev/null || exit 127; module -t avail')
    said=$?
    printf '\n= modules\n%s\n. %s\n' "$(printf '%s\n' "$modules" | sed 's/^/ /')" "$said"
fi

tell conda "exe=$(command -v conda)" "mamba=$(command -v mamba)" "micromamba=$(command -v micromamba)" \
    "login_exe=$(of_login CONDA_EXE)" "login_mamba=$(of_login MAMBA_EXE)"
for each in "$conda" "${CONDA_EXE%/*/*}" "$(of_login CONDA_EXE | sed 's|/[^/]*/[^/]*$||')" \
    "$(command -v conda | sed -n 's|^\(/.*\)/[^/]*/conda$|\1|p')" \
    "$HOME/miniforge3" "$HOME/mambaforge" "$HOME/miniconda3" "$HOME/anaconda3" /opt/conda; do
    if [ -n "$each" ] && [ -r "$each/etc/profile.d/conda.sh" ]; then tell conda_root "$each"; fi
done

look home "$HOME"
scratch=${SCRATCH:-$(of_login SCRATCH)}
work=${WORK:-$(of_login WORK)}
if [ -n "$scratch" ]; then look scratch "$scratch"; fi
if [ -n "$work" ]; then look work "$work"; fi
for each in scratch work; do
    each=/$each/$user
    if [ "$each" != "$scratch" ] && [ -d "${each%/*}" ]; then look "other:$each" "$each"; fi
done
if [ -n "$root" ]; then look root "$(expand "$root")"; fi

ask quota 10 quota -s
if command -v lfs >/dev/null 2>&1; then
    ask lfs_quota 10 lfs quota -h -u "$user" "${scratch:-$HOME}"
fi
tell end
