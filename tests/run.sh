#!/usr/bin/env bash
# Runs the whole suite and sums it up in one line: `N passed, N failed, N skipped`.
# A test that cannot run prints `SKIPPED: <name>: <why>` and is counted as skipped, not as passed; in CI none may be.
set -uo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# One test binary at a time: many of them own namespaces, real-time threads and timers, and there may be two cores.
cargo test --workspace --locked --no-fail-fast -- --nocapture --test-threads="${LYRE_TEST_THREADS:-2}" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}

sum() { grep -aoE "[0-9]+ $1[;,]" "$log" | awk '{n += $1} END {print n + 0}'; }
passed=$(sum passed); failed=$(sum failed)
skipped=$(grep -aciE '(^|[ .])skipped: ' "$log" || true)
passed=$((passed - skipped))
[ "$skipped" = 0 ] || grep -aoiE 'skipped: .*' "$log" | sort -u
if [ "${CI:-}" = true ] && [ "$skipped" -gt 0 ]; then
  echo "test: in CI no test may be skipped"; status=1
fi
# What failed is said again at the end, with its panic: who reads only the tail of a log must not have to guess.
if [ "$status" != 0 ]; then
  grep -aE "^error(\[|:)|^thread '.*panicked at" -A 6 "$log" | cut -c 1-300 | tail -n 60
  grep -aoE '^test .* FAILED$|^    [a-z_0-9]+(::[a-z_0-9]+)+$|SIG[A-Z]+: .*' "$log" | sort -u | sed 's/^ */FAILED: /'
fi
echo "$passed passed, $failed failed, $skipped skipped"
exit "$status"
