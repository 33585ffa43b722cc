# What a login may have set, and what would beat a script's own directives or bind its steps. By SSH_CLIENT a
# bash in the job would take itself for a login, and read .bashrc.
for name in $(env | sed -n 's/^\(\(SBATCH\|SLURM\|SRUN\|SACCT\|SQUEUE\|SCANCEL\|PMI\|PMIX\|HPCRUN\|SSH\)_[A-Za-z0-9_]*\)=.*/\1/p'); do
    [ "$name" = SLURM_CONF ] || unset "$name"
done
limited() { # SECONDS COMMAND...: ended when its time is over, where there is something that ends it
    if command -v timeout >/dev/null 2>&1; then
        timeout -k 2 "$@"
    else
        shift
        "$@"
    fi
}
