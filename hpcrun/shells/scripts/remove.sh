# FOLDER RUN [ARRAY TASK [HOW]]: delete a run's folder, if it certainly is that run's; what it leads to by links
# stays, but for what it alone was given of another run (give.sh). HOW: of a task that made its run's folder
# itself, "last" if it is, or "others" if there are.
spare() { printf '%s\n' "$1" >&2; exit 1; }
delete() { # FOLDER RUN
    case $1 in
        /*/runs/"$2") ;;
        *) spare "it is no folder that hpcrun makes" ;;
    esac
    [ ! -L "$1" ] || spare "it is a link"
    [ ! -e "$1/run.json" ] || spare "it belongs to the history of another workspace"
    if [ -e "$1/status.json" ]; then
        grep -q -F "\"run_id\":\"$2\"" "$1/status.json" || spare "its status.json does not say that it is this run's"
    fi
    given=${1%/runs/*}/given
    for link in "$1"/given/*; do
        [ -L "$link" ] || continue
        key=$(readlink -- "$link") && key=${key#../../../given/} && key=${key%/files}
        case $key in "" | */* | .*) continue ;; esac
        rm -f -- "$given/$key/users/$2"
        if rmdir -- "$given/$key/users" 2>/dev/null; then # nobody else has it, and from now on nobody can
            rm -rf -- "${given:?}/$key"
        fi
    done
    find "$1" -type d ! -perm -700 -exec chmod u+rwx {} + 2>/dev/null
    rm -rf -- "$1" || exit
}
[ ! -e "$1" ] || delete "$1" "$2"
case ${3-} in # of a task of an array its link, and with the last one the array's folder
    /*/arrays/*)
        rm -f -- "$3/$4.txt"
        [ "${5-}" != others ] || exit 0
        if [ "${5-}" = last ]; then
            rm -rf -- "$3"
            exit
        fi
        set -- "$3" "$3"/*.txt
        [ -L "$2" ] || rm -rf -- "$1"
        ;;
esac
