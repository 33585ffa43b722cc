# PART WHOLE: a folder that is complete gets its name, and what tells later whether it still is.
umask 077
sum_of "$1" >"$1.sum" && [ -s "$1.sum" ] || exit 95
if named "$1" "$2"; then
    mv -f -- "$1.sum" "$2.sum"
else
    rm -rf -- "$1" "$1.sum"
    [ -d "$2" ]
fi
