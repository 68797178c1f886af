#!/bin/sh
# The guest's side of verify_share: sh verify_share.sh HOST_FOLDER GUEST_FOLDER ROUNDS
# Writes a rising value into two files, one after the other, by rename, and answers the host's calls.
host=$1 guest=$2 rounds=$3
nl='
'

publish() { # NAME VALUE: 200 lines, so that a part of the file would show
    x=$2$nl
    x=$x$x$x$x$x$x$x$x$x$x
    x=$x$x$x$x$x$x$x$x$x$x
    printf %s "$x$x" > "$guest/.$1.tmp" && mv "$guest/.$1.tmp" "$guest/$1"
}

n=0 answered=0
while [ "$n" -lt "$rounds" ]; do
    n=$((n + 1))
    publish verify_first "$n"
    publish verify_second "$n"
    call=
    if [ -e "$host/verify_call" ]; then read -r call < "$host/verify_call"; fi
    if [ -n "$call" ] && [ "$call" != "$answered" ]; then
        answered=$call
        echo "$answered" > "$guest/.verify_echo.tmp" && mv "$guest/.verify_echo.tmp" "$guest/verify_echo"
    fi
done
echo "$n" > "$guest/.verify_done.tmp" && mv "$guest/.verify_done.tmp" "$guest/verify_done"
