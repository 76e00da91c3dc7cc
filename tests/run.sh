#!/usr/bin/env bash
# Runs the whole suite and sums it up in one line: `N passed, N failed, N skipped`.
# A test that cannot run prints `SKIPPED: <name>: <why>` and is counted as skipped, not as passed; in CI none may be.
# Where the hypervisor took much of the processors' time away, what failed is run once more, alone, and that is said:
# elections and reloads "without a move" cannot hold on a machine that stands still for longer than their intervals.
set -uo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# All of the processors' time so far, and what of it was stolen, in ticks.
ticks() { awk '/^cpu / {for (i = 2; i <= 9; i++) all += $i; print all, $9}' /proc/stat; }
read -r all_before stolen_before < <(ticks)

# One test binary at a time: many of them own namespaces, real-time threads and timers, and there may be two cores.
cargo test --workspace --locked --no-fail-fast -- --nocapture --test-threads="${LYRE_TEST_THREADS:-2}" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}

read -r all_after stolen_after < <(ticks)
stolen=$(((stolen_after - stolen_before) * 1000 / (all_after - all_before + 1)))

sum() { grep -aoE "[0-9]+ $1[;,]" "$log" | awk '{n += $1} END {print n + 0}'; }
passed=$(sum passed); failed=$(sum failed)
skipped=$(grep -aciE '(^|[ .])skipped: ' "$log" || true)
passed=$((passed - skipped))
reasons=$(grep -aoiE 'skipped: .*' "$log" | sort -u)
mapfile -t failures < <(grep -aoE '^test [^ ]+ \.\.\. FAILED$' "$log" | awk '{print $2}' | sort -u)
mapfile -t targets < <(grep -aoE '^    `-p [^`]+`$' "$log" | tr -d '`' | sed 's/^ *//')

# What failed is said again at the end, with its panic: who reads only the tail of a log must not have to guess.
if [ "$status" != 0 ]; then
  grep -aE "^error(\[|:)|^thread '.*panicked at" -A 6 "$log" | cut -c 1-300 | tail -n 60
  printf 'FAILED: %s\n' "${failures[@]}"
  grep -aoE 'SIG[A-Z]+: .*' "$log" | sort -u
fi

# Only where each failure is a test's own, and the machine was not ours for more than 2 % of the time.
if [ "$status" != 0 ] && [ "$stolen" -ge 20 ] && [ "$failed" -gt 0 ] && [ "${#failures[@]}" = "$failed" ] &&
  [ "${#targets[@]}" -gt 0 ]; then
  echo "test: the hypervisor took $((stolen / 10)).$((stolen % 10)) % of the processors' time; once more, alone: ${failures[*]}"
  status=0
  for target in "${targets[@]}"; do
    # shellcheck disable=SC2086 # two or three words
    cargo test --locked $target -- --nocapture --test-threads=1 "${failures[@]}" 2>&1 | tee "$log"
    [ "${PIPESTATUS[0]}" = 0 ] || status=1
  done
  if [ "$status" = 0 ]; then
    echo "test: passed when run alone: ${failures[*]}"
    passed=$((passed + failed)); failed=0
  fi
fi

[ "$skipped" = 0 ] || echo "$reasons"
if [ "${CI:-}" = true ] && [ "$skipped" -gt 0 ]; then
  echo "test: in CI no test may be skipped"; status=1
fi
echo "$passed passed, $failed failed, $skipped skipped"
exit "$status"
