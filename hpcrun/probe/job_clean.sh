#   $1  a folder, as for job_submit.sh   $2  the job's name
# Whatever of the job is left ends, and its folder goes.
scancel --quiet --name="$2" --user="$(id -un)" 2>/dev/null
base=$(expand "$1")
case $2 in
hpcrun-site-check-*) rm -rf -- "${base:?}/$2" ;;
esac
exit 0
