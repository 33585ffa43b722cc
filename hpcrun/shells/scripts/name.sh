# PART WHOLE: a folder that is complete gets its name, and what tells later whether it still is.
umask 077
sum_of "$1" >"$1.sum" && [ -s "$1.sum" ] || exit 95
mv -f -- "$1.sum" "$2.sum" || exit 95 # first: a folder without one is a folder of which something was lost
named "$1" "$2" || { rm -rf -- "$1"; [ -d "$2" ]; }
