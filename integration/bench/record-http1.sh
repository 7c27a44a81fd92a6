#!/usr/bin/env bash
# Records keep-alive JSON traffic between a real nginx and wrk over a veth pair, with the server's own log as the truth.
#   record-http1.sh OUT.pcap CALLS      also writes OUT.truth (completed calls)
# Needs root, and nginx, wrk, tcpdump, ethtool, iproute2, python3.
set -euo pipefail
out=$(realpath "$1"); calls=$2
work=$(mktemp -d)
client=wirecall-bench-c-$$ server=wirecall-bench-s-$$
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for ns in "$client" "$server"; do ip netns del "$ns" 2>/dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT

ip netns add "$client"; ip netns add "$server"
ip link add wrb0 netns "$server" mtu 1500 type veth peer name wrb1 netns "$client" mtu 1500
ip -n "$server" addr add 10.88.0.1/24 dev wrb0; ip -n "$client" addr add 10.88.0.2/24 dev wrb1
for side in "$server wrb0" "$client wrb1"; do
  read -r ns device <<< "$side"
  ip -n "$ns" link set lo up; ip -n "$ns" link set "$device" up
  # frames as they travel between nodes: no segment larger than the MTU
  ip netns exec "$ns" ethtool -K "$device" tso off gso off gro off tx off rx off sg off > /dev/null 2>&1 || true
done

mkdir -p "$work/www/items" "$work/t"
python3 - "$work/www/items" <<'PY'
import json, random, sys
random.seed(20)
for number in range(400):
    lines = [{"sku": f"{random.randrange(1 << 32):08x}", "quantity": random.randrange(1, 99), "note": "x" * random.randrange(4, 40)}
             for _ in range(int(2 ** random.uniform(2, 8)))]
    json.dump({"item": number, "lines": lines}, open(f"{sys.argv[1]}/{number}.json", "w"))
PY
cat > "$work/nginx.conf" <<CONF
user root; worker_processes 1; daemon off; pid $work/pid; error_log $work/error.log crit;
events { worker_connections 2048; }
http {
  default_type application/json; sendfile on; tcp_nopush on; keepalive_requests 1000000; client_max_body_size 1m;
  client_body_temp_path $work/t; proxy_temp_path $work/t; fastcgi_temp_path $work/t; uwsgi_temp_path $work/t; scgi_temp_path $work/t;
  gzip on; gzip_types application/json; gzip_min_length 200;
  log_format truth '\$request_completion \$status \$request_method';
  server {
    listen 10.88.0.1:8080 backlog=1024; root $work/www; access_log $work/access.log truth buffer=64k;
    add_header Cache-Control "private, max-age=0" always;
    location = /orders { return 201 '{"state":"accepted"}'; }
    location = /fail { return 500 '{"error":"upstream timed out"}'; }
  }
}
CONF
cat > "$work/mix.lua" <<'LUA'
local limit = tonumber(os.getenv("CALLS"))
local done = os.getenv("DONE")
local pool, sent, turn = {}, 0, 0
local function text(length) return string.rep("abcdefghij", math.ceil(length / 10)):sub(1, length) end
function init()
  math.randomseed(7)
  for number = 1, 2048 do
    local headers = { ["User-Agent"] = "shop-client/2.4.1", ["Accept"] = "application/json",
      ["Authorization"] = "Bearer " .. text(240), ["X-Request-Id"] = string.format("%032x", number) }
    local dice, method, path, body = math.random(100), "GET", "/items/" .. math.random(0, 399) .. ".json", nil
    if dice <= 20 then
      method, path, body = "POST", "/orders", '{"text":"' .. text(math.floor(200 * 100 ^ math.random())) .. '"}'
      headers["Content-Type"] = "application/json"
    elseif dice <= 24 then headers["Accept-Encoding"] = "gzip"
    elseif dice <= 27 then path = "/missing/" .. number
    elseif dice <= 28 then path = "/fail"
    elseif dice <= 29 then headers["Connection"] = "close"
    elseif dice <= 40 then path = path .. "?page=" .. number .. "&limit=25" end
    pool[number] = wrk.format(method, path, headers, body)
  end
end
function request()
  sent = sent + 1
  if sent == limit then io.open(done, "w"):close(); wrk.thread:stop() end
  turn = turn % #pool + 1
  return pool[turn]
end
LUA

ip netns exec "$server" nginx -c "$work/nginx.conf" -e "$work/error.log" & nginx=$!; pids+=("$nginx")
until ip netns exec "$client" bash -c 'exec 3<>/dev/tcp/10.88.0.1/8080' 2> /dev/null; do sleep 0.1; done
ip netns exec "$server" tcpdump -i wrb0 -s 0 -B 262144 -U -n -Z root -w "$out" tcp port 8080 2> "$work/tcpdump.log" & dump=$!; pids+=("$dump")
until grep -q listening "$work/tcpdump.log"; do sleep 0.1; done
CALLS=$calls DONE=$work/done ip netns exec "$client" wrk -t1 -c100 -d300s --timeout 20s -s "$work/mix.lua" http://10.88.0.1:8080/ > "$work/wrk.log" & wrk=$!; pids+=("$wrk")
until [ -e "$work/done" ]; do kill -0 "$wrk" || break; sleep 0.2; done
sleep 1; kill -INT "$wrk" 2> /dev/null || true; wait "$wrk" || true
before=-1; while now=$(stat -c %s "$out"); [ "$before" != "$now" ]; do before=$now; sleep 1; done
kill -INT "$dump"; wait "$dump" || true
kill -QUIT "$nginx"; wait "$nginx" || true
dropped=$(awk '/dropped by kernel/ { print $1 }' "$work/tcpdump.log")
[ "${dropped:-0}" = 0 ] || { echo "record-http1: the capture itself dropped $dropped packets; run again" >&2; exit 1; }
grep -c '^OK' "$work/access.log" > "${out%.pcap}.truth"
echo "recorded $(cat "${out%.pcap}.truth") calls, $(stat -c %s "$out") bytes"
