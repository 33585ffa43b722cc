# FOLDER TEMPLATE MINE: what the tasks of a job array make their runs' folders from; on standard input, a line for
# each of them.
folder=$1 template=$2 mine=$3
umask 077
cd -- "$folder" || exit 95
if ! cat >"table.$mine" || ! mv -f -- "table.$mine" table; then
    rm -f -- "table.$mine"
    exit 95
fi
if ! printf '%s' "$template" >"template.sh.$mine" || ! mv -f -- "template.sh.$mine" template.sh; then
    exit 95
fi
