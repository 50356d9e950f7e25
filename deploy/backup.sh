#!/bin/sh
# backup.sh DIR FOLDER [KEEP]: one more backup of a data directory below FOLDER, named by the time,
# verified; then all but the newest KEEP (7) are removed. Ends with 0 only where all of that is done.
set -eu
dir=$1 folder=$2 keep=${3:-7}
target=$folder/$(date -u +%Y-%m-%dT%H-%M-%SZ)
engram-wal backup "$dir" "$target"
engram-wal verify "$target"
# Names sort as their times do. What was broken off has .partial in its name, and is no backup.
ls -d "$folder"/????-??-??T??-??-??Z | sort -r | tail -n "+$((keep + 1))" | xargs -r rm -r
