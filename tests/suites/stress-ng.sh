#!/usr/bin/env bash
# Runs stress-ng's file and lock stressors with --verify on a mount: tests/suites/stress-ng.sh MOUNTPOINT [STRESSOR...]
#
# Two workers each, 2 seconds per stressor; 20 with BRICKWORK_ROUNDS=full. What fails, hangs or is skipped must be
# just what stress-ng.expected lists (EXPECTED names another file).
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

mount_point=$(mountpoint_argument "$@")
shift
command -v stress-ng >/dev/null || refuse "needs stress-ng: apt-get install stress-ng" 77
expected=${EXPECTED:-$suites/stress-ng.expected}
seconds=2
if full; then seconds=20; fi

# Those of 0.15 that work beneath --temp-path. Not io-uring: its statx fails on ext4, too.
locks=(flock fcntl locka lockf lockofd lease)
names=(chdir copy-file dentry dir dirdeep dirmany filename getdent link mknod open rename symlink)
attributes=(access chattr chmod chown file-ioctl fstat handle inode-flags touch utime xattr)
contents=(aio aiol fallocate fiemap fpunch fsize hdd io iomix mmap msync readahead revio seek sendfile splice sync-file)
events=(dnotify dup fanotify inotify)
stressors=("${locks[@]}" "${names[@]}" "${attributes[@]}" "${contents[@]}" "${events[@]}")
everything=1
if [ $# -gt 0 ]; then stressors=("$@") everything=; fi

# No working set beyond the 1 GiB that the file system may have.
sizes=(--hdd-bytes 32m --iomix-bytes 32m --copy-file-bytes 128m --fallocate-bytes 32m --readahead-bytes 32m
    --seek-size 32m --chdir-dirs 1024)
stress-ng --dry-run "${sizes[@]}" --null 1 >/dev/null 2>&1 || refuse "this stress-ng knows other options" 1

work=$(mktemp -d)
scratch=$(mktemp -d "$mount_point/stress-ng.XXXXXX")
clean_up() {
    trap - EXIT INT TERM HUP
    rm -rf "$work" "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

: >"$work/failed"
: >"$work/skipped"
for stressor in "${stressors[@]}"; do
    result=0
    timeout --kill-after=10 $((seconds + 60)) stress-ng --temp-path "$scratch" --verify --timeout "$seconds" \
        "${sizes[@]}" --"$stressor" 2 >"$work/log" 2>&1 || result=$?
    # 3: not enough resources; 4: not implemented here.
    if grep -q 'skipping stress' "$work/log"; then result=4; fi
    case $result in
        0) ;;
        3 | 4) echo "$stressor" >>"$work/skipped" ;;
        *)
            echo "$stressor" >>"$work/failed"
            echo "$stressor: exit code $result$( ((result >= 124)) && echo ', it hung')"
            grep -E 'fail|error' "$work/log" | head -n 8 || tail -n 8 "$work/log"
            ;;
    esac
done

echo "${#stressors[@]} stressors of $seconds s: $(wc -l <"$work/failed") failed, $(wc -l <"$work/skipped") skipped"
if [ -z "$everything" ]; then [ ! -s "$work/failed" ]; exit; fi
status=0
compare_names fail "$expected" "$work/failed" || status=1
compare_names skip "$expected" "$work/skipped" || status=1
exit "$status"
