#!/usr/bin/env bash
# Runs fsx on a mount: random file operations, every read checked against a model: tests/suites/fsx.sh MOUNTPOINT
#
# 5,000 operations with and without mmap; 100,000 with BRICKWORK_ROUNDS=full. SEED=N repeats a run.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

mount_point=$(mountpoint_argument "$@")
fsx=$(tool fsx 0.3.2)
operations=5000
if full; then operations=100000; fi
seed=${SEED:-$((RANDOM * 32768 + RANDOM))}
work=$(mktemp -d)
file=$(mktemp -u "$mount_point/fsx.XXXXXX")

clean_up() {
    trap - EXIT INT TERM HUP
    rm -rf "$work"
    rm -f "$file"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

status=0
for configuration in fsx-mmap fsx-no-mmap; do
    if "$fsx" -f "$suites/$configuration.toml" -N "$operations" -S "$seed" -P "$work" "$file" >"$work/log" 2>&1; then
        echo "$configuration: $operations operations, seed $seed: as in the model"
    else
        tail -n 60 "$work/log"
        echo "$configuration: differs from the model; repeat with SEED=$seed"
        status=1
    fi
done
exit "$status"
