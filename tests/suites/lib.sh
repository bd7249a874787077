# Shared by the suites: sourced, never run.
# shellcheck shell=bash

suites=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$suites/../.." && pwd)
# The tools are built once and kept beside our own build.
tools=${CARGO_TARGET_DIR:-$root/target}/suites

refuse() { echo "$(basename "$0"): $1" >&2; exit "${2:-64}"; }

# The mount point under test, from the first argument, as an absolute path.
mountpoint_argument() {
    [ $# -ge 1 ] || refuse "usage: $(basename "$0") MOUNTPOINT"
    [ -d "$1" ] || refuse "$1 is no directory"
    (cd "$1" && pwd -P)
}

need_root() { [ "$(id -u)" = 0 ] || refuse "needs root: it acts as several users" 77; }

# Builds a tool from crates.io unless this very version is there.
tool() {
    local name=$1 version=$2
    if [ ! -x "$tools/$name-$version/bin/$name" ]; then
        echo "building $name $version into $tools" >&2
        CARGO_TARGET_DIR=$tools/build cargo install --quiet --locked --root "$tools/$name-$version" --version "$version" "$name" >&2
    fi
    printf '%s' "$tools/$name-$version/bin/$name"
}

full() { [ "${BRICKWORK_ROUNDS:-}" = full ]; }

# The names that an expectation file lists for a kind (fail or skip), sorted.
expected_names() { awk -v kind="$2" '$1 == kind { print $2 }' "$1" | sort; }

# Says how the names found of a kind differ from the expected ones; fails if they do.
compare_names() {
    local kind=$1 expected=$2 found=$3 differs=0 name
    while read -r name; do
        echo "unexpected $kind: $name"
        differs=1
    done < <(comm -13 <(expected_names "$expected" "$kind") <(sort "$found"))
    while read -r name; do
        echo "expected $kind did not happen, so strike it from $(basename "$expected"): $name"
        differs=1
    done < <(comm -23 <(expected_names "$expected" "$kind") <(sort "$found"))
    return "$differs"
}

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
