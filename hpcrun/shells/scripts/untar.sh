# THERE KIND: a tar on standard input as the folder THERE, or, of KIND "file", its only member as the file THERE.
umask 077
rm -rf -- "$1"
if [ "$2" = folder ]; then
    mkdir -p -- "$1" && cd -- "$1" && tar -xf -
else
    mkdir -p -- "$1.in" && (cd -- "$1.in" && tar -xf -) && mv -f -- "$1.in/file" "$1" && rmdir -- "$1.in"
fi || exit 95
chmod -R go-rwx -- "$1"
