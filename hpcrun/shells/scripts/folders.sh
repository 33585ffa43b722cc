# Folders that are whole under their names.
named() { # NEW NAME: give a folder that is complete its name; where two do so at once, the first one's stays
    [ ! -d "$2" ] || return 1
    mv -T -- "$1" "$2" 2>/dev/null && return
    [ ! -d "$2" ] || return 1
    mv -- "$1" "$2" # where mv knows no -T
}
sum_of() { # FOLDER: a checksum over names, kinds, contents and what may be executed
    for summer in cksum sha256sum md5sum; do
        ! command -v "$summer" >/dev/null 2>&1 || break
    done
    (
        cd -- "$1" || exit
        find . -type f -exec "$summer" {} +
        find . -type f -perm -100
        find . -type l -exec sh -c 'for link; do printf "%s -> %s\n" "$link" "$(readlink "$link")"; done' sh {} +
        find . -type d
    ) | LC_ALL=C sort | "$summer"
}
