# FOLDER SCRIPT MINE: the folder of a job array; on standard input, for each task, its number and where its log is.
folder=$1 script=$2 mine=$3
umask 077
mkdir -p "$folder" || exit 95
while IFS=' ' read -r task log; do
    ln -s -f -- "$log" "$folder/$task.txt" || exit 95
done
if ! printf '%s' "$script" >"$folder/job.sh.$mine" || ! mv -f -- "$folder/job.sh.$mine" "$folder/job.sh"; then
    exit 95
fi
