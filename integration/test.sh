#!/usr/bin/env bash
# Runs every test of the workspace with real components, and prints the totals last.
set -uo pipefail
cd "$(dirname "$0")/.."

echo "test: fetching real components (cached; kube-apiserver is built once, a few minutes)"
cargo run --quiet -p wirecall-test-support --bin wirecall-components -- all-fetch || echo "test: some components could not be fetched; tests that need them say so"

echo "test: building the services"
cargo build --quiet --workspace --bins || exit 1

log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --workspace --no-fail-fast 2>&1 | tee "$log"
status=${PIPESTATUS[0]}

skipped=$(grep -c '^SKIPPED ' "$log")
if [ "$skipped" -gt 0 ]; then
  echo
  echo "skipped, and why:"
  grep '^SKIPPED ' "$log" | sort -u
fi
echo
awk -v skipped="$skipped" '
  /^test result:/ { for (i = 1; i < NF; i++) { if ($(i + 1) ~ /^passed/) passed += $i; if ($(i + 1) ~ /^failed/) failed += $i } }
  END { printf "%d passed, %d failed, %d skipped\n", passed - skipped, failed, skipped }' "$log"
exit "$status"
