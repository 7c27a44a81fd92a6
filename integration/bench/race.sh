#!/usr/bin/env bash
# wirecall replay beside tshark and Suricata on the same capture, one core, one run. CPU seconds are user plus system.
#   race.sh WIRECALL HTTP1.pcap HTTP1S.pcap     (the second, smaller one is for tshark)
set -euo pipefail
wirecall=$1 large=$2 small=$3
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
core=$(($(nproc) - 1))
rounds=${ROUNDS:-3}

# measure NAME CAPTURE COUNT-COMMAND -- COMMAND...: best CPU time of some rounds
measure() {
  local name=$1 capture=$2 count=$3; shift 4
  local best='' rss=0 calls=0 round
  cat "$capture" > /dev/null
  for ((round = 0; round < rounds; round++)); do
    rm -rf "$work/run"; mkdir "$work/run"; cd "$work/run"
    taskset -c "$core" /usr/bin/time -o times -f '%U %S %M' "$@" > out 2> err || { echo "$name failed: $(tail -1 err)" >&2; return 0; }
    read -r user system memory < times
    calls=$(eval "$count")
    best=$(echo "$user $system ${best:-1e9}" | awk '{ t = $1 + $2; if (t <= 0) t = 0.01; print t < $3 ? t : $3 }')
    [ "$memory" -gt "$rss" ] && rss=$memory
    cd "$work"
  done
  local truth bytes; truth=$(cat "${capture%.pcap}.truth"); bytes=$(stat -c %s "$capture")
  echo "$name $best $calls $truth $bytes $rss" | awk '{ printf "%-22s %8.2f s  %9.0f calls/s  %7.1f MB/s  %7.2f %% of truth  %6.0f MiB\n", $1, $2, $3 / $2, $5 / 1e6 / $2, 100 * $3 / $4, $6 / 1024; print $1, $3 / $2 >> "'"$work"'/rates" }'
}

echo "one core, best of $rounds; $(basename "$large"): $(stat -c %s "$large") bytes, $(cat "${large%.pcap}.truth") calls; $(basename "$small"): $(cat "${small%.pcap}.truth") calls"
ours='grep -o "\"http\":[0-9]*" err | head -1 | cut -d: -f2'
measure wirecall "$large" "$ours" -- bash -c "exec '$wirecall' replay '$large' --format avro --stats --connections none > /dev/null"
measure wirecall-small "$small" "$ours" -- bash -c "exec '$wirecall' replay '$small' --format avro --stats --connections none > /dev/null"
# like for like with peers that redact nothing
measure wirecall-unredacted "$large" "$ours" -- bash -c "exec '$wirecall' replay '$large' --format avro --stats --connections none --no-redaction > /dev/null"
if command -v suricata > /dev/null; then
  measure suricata "$large" 'grep -c "\"event_type\":\"http\"" eve.json' -- suricata -c "$here/suricata.yaml" -r "$large" --runmode single -k none -S /dev/null -l .
fi
if command -v tshark > /dev/null; then
  rounds=1 measure tshark "$small" 'grep -c . out' -- tshark -n -r "$small" -Y http.request -T fields -e frame.time_epoch -e ip.src -e http.request.method -e http.request.uri -e http.host
fi
awk '{ rate[$1] = $2 } END {
  if (rate["suricata"]) printf "wirecall : suricata = %.1f (target 2.7)\n", rate["wirecall"] / rate["suricata"]
  if (rate["tshark"]) printf "wirecall : tshark   = %.0f (target 80)\n", rate["wirecall-small"] / rate["tshark"] }' "$work/rates"
