#   $1  a folder, which may hold ~ and variables: the site's root
#   $2  the name of the job, and of the folder that is made for it
#   $3  a word that nobody else knows
# The job's script is read. Says where the folder is, and what sbatch says.
base=$(expand "$1")
case $base in
/*) ;;
*)
    echo "the folder for the job is no path there: $base" >&2
    exit 40
    ;;
esac
folder=$base/$2
(umask 077 && mkdir -p -- "$base" && mkdir -- "$folder") || exit 40
printf '%s\n' "$3" >"$folder/word" && cat >"$folder/job.sh" || exit 40
printf 'folder=%s\n' "$folder"
cd -- "$folder" || exit 40
said=$(sbatch --parsable "$folder/job.sh" "$folder" "$3" 2>"$folder/refused")
code=$?
printf 'job=%s\n' "${said%%;*}"
head -c 4096 "$folder/refused" >&2
exit "$code"
