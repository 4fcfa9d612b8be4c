#!/bin/sh
# Starts Spin with how long and how often an instance is reused, which Spin takes as flags only: neither
# the environment nor a SpinApp can set them. Replaces itself, so that signals reach Spin.
set -eu

if [ "${1:-}" != up ]; then
    exec spin "$@"
fi

# A connection is a file descriptor, and Spin ends when it has none left for the next one.
ulimit -S -n "$(ulimit -H -n)"

# The defaults are those that docs/dev/performance.md recommends, and that the figures in docs/capacity.md were measured
# with.
# Without a folder for its state: nothing uses Spin's stores, and the root file system is read-only.
exec spin "$@" \
    --state-dir "" \
    --max-instance-reuse-count "${ORDERS_INSTANCE_REUSE_COUNT:-128}" \
    --max-instance-concurrent-reuse-count "${ORDERS_INSTANCE_CONCURRENCY:-16}" \
    --idle-instance-timeout "${ORDERS_INSTANCE_IDLE_TIMEOUT:-1s}"
