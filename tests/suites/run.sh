#!/usr/bin/env bash
# Runs the external suites on a file system of their own: tests/suites/run.sh [--on WHAT] [pjdfstest|fsx|fio|stress-ng]...
#
#   --on brickwork    a Brickwork mount of a folder on a fresh ext4 (the default)
#   --on passthrough  the plain FUSE passthrough of benches/: what differs there is FUSE's doing
#   --on ext4         the ext4 itself: the yardstick
#
# The ext4 lives in a 1 GiB image, so nothing of the machine's own file systems is touched. Needs root.
# BRICKWORK names the binary; without it, the release build of this tree is made and used.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

on=brickwork wanted=()
while [ $# -gt 0 ]; do
    case $1 in
        --on) [ $# -ge 2 ] || refuse "--on needs a value"; on=$2; shift ;;
        pjdfstest | fsx | fio | stress-ng) wanted+=("$1") ;;
        *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; refuse "no suite $1" ;;
    esac
    shift
done
[ ${#wanted[@]} -gt 0 ] || wanted=(pjdfstest fsx fio stress-ng)
case $on in brickwork | passthrough | ext4) ;; *) refuse "--on brickwork, passthrough or ext4" ;; esac
need_root

work=$(mktemp -d)
# The suites act as users who must come through here.
chmod 755 "$work"
server=
clean_up() {
    trap - EXIT INT TERM HUP
    end_child
    if mountpoint -q "$work/mount" 2>/dev/null; then
        if [ "$on" = brickwork ]; then "$brickwork" umount "$work/mount" || umount -l "$work/mount" || true
        else umount "$work/mount" || umount -l "$work/mount" || true; fi
    fi
    if [ -n "$server" ]; then wait "$server" || true; fi
    if mountpoint -q "$work/ext4" 2>/dev/null; then umount "$work/ext4" || umount -l "$work/ext4" || true; fi
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

mkdir "$work/ext4" "$work/mount"
truncate -s 1G "$work/image"
mkfs.ext4 -q -F "$work/image"
mount -o loop,acl,user_xattr "$work/image" "$work/ext4"
mkdir "$work/ext4/brick"

case $on in
    ext4)
        under_test=$work/ext4
        export EXPECTED=/dev/null
        ;;
    passthrough)
        under_test=$work/mount
        CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/passthrough \
            cargo build --release --locked --quiet --manifest-path "$root/benches/passthrough/Cargo.toml"
        mkfifo "$work/ready"
        "${CARGO_TARGET_DIR:-$root/target}/passthrough/release/passthrough" "$work/ext4/brick" "$under_test" >"$work/ready" &
        server=$!
        said=
        read -r said <"$work/ready" || true
        [ "$said" = mounted ] || refuse "the passthrough did not mount" 1
        ;;
    brickwork)
        under_test=$work/mount
        brickwork=${BRICKWORK:-}
        if [ -z "$brickwork" ]; then
            (cd "$root" && cargo build --release --locked --quiet --bin brickwork)
            brickwork=${CARGO_TARGET_DIR:-$root/target}/release/brickwork
        fi
        cat >"$work/brick.vol" <<VOLFILE
volume posix
    type storage/posix
    option directory $work/ext4/brick
end-volume

volume stats
    type debug/io-stats
    subvolumes posix
end-volume
VOLFILE
        "$brickwork" mount "$work/brick.vol" "$under_test"
        ;;
esac

status=0
for suite in "${wanted[@]}"; do
    echo "== $suite on $on"
    run_child "$suites/$suite.sh" "$under_test" || status=1
done
exit "$status"
