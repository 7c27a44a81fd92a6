#!/usr/bin/env bash
# Everything that `make bench` measures. CALLS sets the size of the capture (default 80,000 calls, about half a gigabyte).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
cache=${WIRECALL_BENCH_DIR:-target/bench-data}
mkdir -p "$cache"
cargo build --release --workspace --bins

echo "== codec: Avro"
cargo bench --quiet -p wirecall-schemas --bench codec

echo "== race: HTTP/1 capture file to Avro events"
for size in "http1 ${CALLS:-80000}" "http1s 5000"; do
  read -r name calls <<< "$size"
  if [ ! -s "$cache/$name.pcap" ]; then
    if [ "$(id -u)" = 0 ]; then "$here/record-http1.sh" "$cache/$name.pcap" "$calls"
    else echo "SKIPPED race: recording needs root for network namespaces"; exit 0; fi
  fi
done
"$here/race.sh" "$PWD/target/release/wirecall" "$PWD/$cache/http1.pcap" "$PWD/$cache/http1s.pcap"

echo "== pipeline: through a real Kafka"
cargo bench --quiet -p wirecall --bench pipeline
