# FOLDER RUN [ARRAY TASK]: delete a run's folder, if it certainly is that run's; what it leads to by links stays.
[ -e "$1" ] || exit 0
spare() { printf '%s\n' "$1" >&2; exit 1; }
case $1 in
    /*/runs/"$2") ;;
    *) spare "it is no folder that hpcrun makes" ;;
esac
[ ! -L "$1" ] || spare "it is a link"
[ ! -e "$1/run.json" ] || spare "it belongs to the history of another workspace"
if [ -e "$1/status.json" ]; then
    grep -q -F "\"run_id\":\"$2\"" "$1/status.json" || spare "its status.json does not say that it is this run's"
fi
find "$1" -type d ! -perm -700 -exec chmod u+rwx {} + 2>/dev/null
rm -rf -- "$1" || exit
case ${3-} in # of a task of an array its link, and with the last one the array's folder
    /*/arrays/*)
        rm -f -- "$3/$4.txt"
        set -- "$3" "$3"/*.txt
        [ -L "$2" ] || rm -rf -- "$1"
        ;;
esac
