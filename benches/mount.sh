#!/usr/bin/env bash
# The same work on our mount, on a plain passthrough mount, and on the folder itself: ops/s and ratios.
# With --network: on one brick over TCP loopback, by Brickwork and by GlusterFS 10, and on our mount without a network.
#
#   benches/mount.sh [--network [--locks]] [--quick] [--rounds N] [--only TEXT] [--require RATIO] [--json FILE]
#                    [--backing DIR] [--without-brickwork] [--timeouts SECONDS] [--install]
#
#   --network            Brickwork against GlusterFS, both with volfiles/brick.vol and volfiles/client.vol
#   --locks              --network: locks instead of data and names; each row has a target of its own
#   --quick              a quarter of the data, 600 files instead of 3,000, 3 rounds instead of 5
#   --only TEXT          only the rows whose name contains TEXT
#   --require RATIO      mark rows below RATIO (0.80; 2.00 with --network), and exit with 2 when there is one
#   --json FILE          every figure of every round
#   --backing DIR        measure on the file system of DIR; without it on a fresh ext4 in memory, which is quieter
#   --without-brickwork  only the yardsticks: what FUSE, or GlusterFS, costs here
#   --timeouts SECONDS   --network: attribute and entry timeout of every mount; without it each has its own default
#   --install            --network: install GlusterFS by apt-get when it is missing
#
# BRICKWORK names the binary to measure; without it, the build of this tree with the profile dist is made and used.
# Needs root, /dev/fuse and fio. What the figures mean: benches/README.md.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
quick=() rounds=5 only=() require= json=() backing= with_brickwork=1 network= timeouts= install= locks=()

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; }
refuse() { echo "mount.sh: $1" >&2; exit "${2:-64}"; }
value() { [ $# -ge 2 ] || refuse "$1 needs a value"; printf '%s' "$2"; }

while [ $# -gt 0 ]; do
    case $1 in
        --network) network=1 ;;
        --timeouts) timeouts=$(value "$@"); shift ;;
        --install) install=1 ;;
        --locks) locks=(--locks) ;;
        --quick) quick=(--quick); rounds=3 ;;
        --rounds) rounds=$(value "$@"); shift ;;
        --only) only=(--only "$(value "$@")"); shift ;;
        --require) require=$(value "$@"); shift ;;
        --json) json=(--json "$(value "$@")"); shift ;;
        --backing) backing=$(value "$@"); shift ;;
        --without-brickwork) with_brickwork= ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; refuse "no option $1" ;;
    esac
    shift
done

[ "$(id -u)" = 0 ] || refuse "needs root: the passthrough keeps owners" 77
[ -c /dev/fuse ] || refuse "needs /dev/fuse" 77
command -v fio >/dev/null || refuse "needs fio: apt-get install fio" 77
[ -z "${locks[*]}" ] || [ -n "$network" ] || refuse "--locks is for --network: a mount without a brick has none"
if [ -n "$network" ]; then : "${require:=2.00}"; else : "${require:=0.80}"; fi
# shellcheck source=benches/gluster.sh
. "$root/benches/gluster.sh"

# --- build ------------------------------------------------------------------------------------------------------

helpers=${CARGO_TARGET_DIR:-$root/target}/passthrough
CARGO_TARGET_DIR=$helpers cargo build --release --locked --quiet --manifest-path "$root/benches/passthrough/Cargo.toml"
brickwork=${BRICKWORK:-}
if [ -n "$with_brickwork" ] && [ -z "$brickwork" ]; then
    (cd "$root" && cargo build --profile dist --locked --quiet --bin brickwork)
    brickwork=${CARGO_TARGET_DIR:-$root/target}/dist/brickwork
fi

# --- set up, and whatever happens, clean up -----------------------------------------------------------------------

work=$(mktemp -d "${backing:-${TMPDIR:-/tmp}}/brickwork-bench.XXXXXX")
image=
passthrough_pid=

# Runs a command in a session of its own, so that all of it can be ended when this script is.
child=
run_child() {
    setsid "$@" &
    child=$!
    local result=0
    wait "$child" || result=$?
    child=
    return "$result"
}

# Ends what run_child runs: asks, waits up to 30 s, insists.
end_child() {
    [ -n "$child" ] || return 0
    pkill -TERM -s "$child" || true
    for _ in $(seq 300); do
        pgrep -s "$child" >/dev/null || return 0
        sleep 0.1
    done
    pkill -KILL -s "$child" || true
}

# A folder that is still mounted is never entered: --one-file-system, and only after the unmounts.
clean_up() {
    trap - EXIT INT TERM HUP
    end_child
    local mount
    for mount in "$work"/*/mount; do
        mountpoint -q "$mount" 2>/dev/null || continue
        case $mount in
            "$work"/ours/* | "$work"/network/*) "$brickwork" umount "$mount" || umount -l "$mount" || true ;;
            *) umount "$mount" || umount -l "$mount" || true ;;
        esac
    done
    end_bricks
    if [ -n "$passthrough_pid" ]; then wait "$passthrough_pid" || true; fi
    if [ -n "$image" ]; then
        if mountpoint -q "$work"; then umount "$work" || umount -l "$work" || true; fi
        rm -f "$image"
    fi
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

if [ -z "$backing" ]; then
    image=$(mktemp /dev/shm/brickwork-bench.XXXXXX)
    truncate -s 3G "$image"
    mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$image"
    mount -o loop "$image" "$work"
fi
mkdir -p "$work"/{ours,network,glusterfs,stack,passthrough}/{brick,mount} "$work/folder"

mount_passthrough() {
    mkfifo "$work/ready"
    "$helpers/release/passthrough" "$work/passthrough/brick" "$work/passthrough/mount" >"$work/ready" &
    passthrough_pid=$!
    local said=
    read -r said <"$work/ready" || true
    [ "$said" = mounted ] || refuse "the passthrough did not mount" 1
}

mount_ours() {
    cat >"$work/ours/brick.vol" <<VOLFILE
volume posix
    type storage/posix
    option directory $work/ours/brick
end-volume

volume stats
    type debug/io-stats
    subvolumes posix
end-volume
VOLFILE
    "$brickwork" mount "$work/ours/brick.vol" "$work/ours/mount"
    mountpoint -q "$work/ours/mount" || refuse "brickwork mount returned, but nothing is mounted" 1
}

# The resident memory of the processes that serve our mount.
resident() {
    local pid
    for pid in $(pgrep -f -- "$work/(ours|network)/"); do
        awk -v when="$1" '/^Name/ { name = $2 } /^VmRSS/ { printf "resident memory of %s, %s: %.1f MiB\n", name, when, $2 / 1024 }' \
            "/proc/$pid/status"
    done
}

# --- measure ------------------------------------------------------------------------------------------------------

echo "# $(date -u +%FT%TZ)  Linux $(uname -r)  $(nproc) processors  load $(cut -d' ' -f1-3 /proc/loadavg)"
echo "# on $(findmnt -no FSTYPE -T "$work"), commit $(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)"
targets=() ratios=()

against_passthrough() {
    mount_passthrough
    targets=("passthrough=$work/passthrough/mount" "folder=$work/folder")
    if [ -n "$with_brickwork" ]; then
        mount_ours
        targets=("brickwork=$work/ours/mount" "${targets[@]}")
    fi
}

against_glusterfs() {
    if [ -n "$with_brickwork" ]; then
        network_brickwork
        targets=("brickwork=$work/network/mount")
        # Without a brick the kernel keeps the locks, and nothing of ours is asked.
        if [ -z "${locks[*]}" ]; then
            mount_ours
            targets+=("local=$work/ours/mount")
            ratios=(--ratio brickwork/local)
        fi
    fi
    have_gluster || return 0
    network_gluster
    network_gluster_stack
    targets+=("glusterfs=$work/glusterfs/mount" "stack=$work/stack/mount")
    ratios=(--ratio glusterfs/stack)
    if [ -n "$with_brickwork" ]; then
        ratios=(--ratio brickwork/glusterfs --ratio brickwork/stack)
        if [ -z "${locks[*]}" ]; then ratios+=(--ratio brickwork/local); fi
    fi
    echo "# $(glusterfsd --version | head -n 1); timeouts: ${timeouts:-each its own (glusterfs: 1 s)}"
}

if [ -n "$network" ]; then against_glusterfs; else against_passthrough; fi
[ "${#targets[@]}" -gt 0 ] || refuse "nothing to measure" 77
# Only a ratio of ours is judged: a yardstick has no target.
if [ -z "$with_brickwork" ] || { [ -n "$network" ] && ! command -v glusterfsd >/dev/null; }; then require=0; fi
if [ -n "$with_brickwork" ]; then resident "when idle"; fi
status=0
run_child "$helpers/release/compare" "${locks[@]}" "${quick[@]}" "${only[@]}" "${json[@]}" --rounds "$rounds" --require "$require" \
    "${ratios[@]}" "${targets[@]}" || status=$?
if [ -n "$with_brickwork" ]; then resident "after the work"; fi
exit "$status"
