#!/usr/bin/env bash
# Fuzzes the cores with libFuzzer, each target for FUZZ_SECONDS (default 60). Needs a nightly compiler.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${FUZZ_SECONDS:-60}
if ! rustup toolchain list 2> /dev/null | grep -q nightly; then
  echo "fuzz: a nightly compiler is needed: rustup toolchain install nightly" >&2
  exit 69
fi
if ! cargo fuzz --version > /dev/null 2>&1; then
  echo "fuzz: cargo install cargo-fuzz (a minute, once)"
  cargo install --quiet --locked cargo-fuzz
fi
for target in frames operations records stream; do
  echo "fuzz: $target for $seconds s"
  cargo +nightly fuzz run --fuzz-dir fuzz "$target" -- -max_total_time="$seconds" -max_len=65536 -print_final_stats=1
done
