# ROOT FOLDER WORD [PART]: of an environment that is to be brought; what is to go to its log comes on standard
# input. WORD: "ask": for what machine, if it still is to be; "log"; "failed"; or what made it: PART is it, whole.
# 95: it cannot be done.
umask 077
folder=$1/$2
case $2 in "" | */* | .*) exit 95 ;; esac
if ! [ -e "$folder/wanted" ]; then # somebody else was first, or it is given up
    case ${4-} in "$folder/prefix."*) rm -rf -- "$4" ;; esac
    exit 0
fi
if [ "$3" = ask ]; then
    cat -- "$folder/wanted"
    printf 'folder %s\n' "$folder"
    exit 0
fi
cat >>"$folder/log.txt"
[ "$3" != log ] || exit 0
[ "$3" = failed ] || named "$4" "$folder/prefix" || rm -rf -- "$4"
printf '%s\n' "$3" >"$folder/brought.$$" && mv -f -- "$folder/brought.$$" "$folder/brought" || exit 95
rm -f -- "$folder/wanted"
