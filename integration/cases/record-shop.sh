#!/usr/bin/env bash
# Records the sample traffic of `make demo`: a web pod that calls a shop's API and a user service, both real nginx, over
# a veth pair between two network namespaces. Needs root, and nginx, curl, tcpdump and python3 from Debian.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/http1-shop/input.pcap}
work=$(mktemp -d)
client=wirecall-rec-c-$$
server=wirecall-rec-s-$$
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  ip netns del "$client" 2>/dev/null || true
  ip netns del "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

ip netns add "$client"; ip netns add "$server"
ip link add "wrc$$" netns "$client" type veth peer name "wrs$$" netns "$server"
ip -n "$client" addr add 10.244.1.17/16 dev "wrc$$"
for address in 10.244.2.9/16 10.244.3.4/16; do ip -n "$server" addr add "$address" dev "wrs$$"; done
for ns in "$client" "$server"; do ip -n "$ns" link set lo up; done
ip -n "$client" link set "wrc$$" up; ip -n "$server" link set "wrs$$" up

mkdir -p "$work/www/v1"
printf '{"items":[{"sku":"A-17","quantity":2},{"sku":"B-03","quantity":1}],"total":"42.90"}' > "$work/www/v1/cart"
python3 - "$work/www/v1/catalogue" <<'PY'
import json, sys
json.dump([{"sku": f"S-{i:04}", "name": f"Article {i}", "price": i * 7 % 1000 / 10} for i in range(900)], open(sys.argv[1], "w"))
PY
cat > "$work/nginx.conf" <<CONF
user root; daemon off; pid $work/pid; error_log $work/error.log;
events {}
http {
  default_type application/json; client_body_temp_path $work/body; access_log off;
  proxy_temp_path $work/p; fastcgi_temp_path $work/f; uwsgi_temp_path $work/u; scgi_temp_path $work/s;
  server {
    listen 10.244.2.9:8080; root $work/www;
    gzip on; gzip_types application/json; gzip_min_length 1000;
    location = /v1/orders { return 201 '{"order":"o-1009","state":"accepted"}'; }
    location = /v1/upload { return 204; }
    location = /v1/old { return 301 /v1/cart; }
    location = /v1/checkout { return 503 '{"error":"payment service is down"}'; }
    location = /v1/cart { add_header Set-Cookie "cart=c-77; HttpOnly"; add_header Set-Cookie "seen=1"; try_files \$uri =404; }
  }
  server {
    listen 10.244.3.4:80;
    location = /login { return 200 '{"user":"ada","token":"tok-8d1f"}'; }
    location / { return 401 '{"error":"who are you"}'; }
  }
}
CONF
mkdir -p "$work"/{body,p,f,u,s}
ip netns exec "$server" nginx -c "$work/nginx.conf" -e "$work/error.log" & pids+=($!)
until ip netns exec "$client" curl -so /dev/null http://10.244.3.4/; do sleep 0.1; done
ip netns exec "$server" tcpdump -i "wrs$$" -U -w "$work/shop.pcap" tcp 2> "$work/tcpdump.log" & dump=$!; pids+=("$dump")
until grep -q listening "$work/tcpdump.log"; do sleep 0.1; done

in_client() { ip netns exec "$client" "$@"; }
shop=http://10.244.2.9:8080
in_client curl -s -o /dev/null -o /dev/null -o /dev/null "$shop/v1/cart" "$shop/v1/old" "$shop/v1/missing?page=2" -H 'Host: shop.shop.svc.cluster.local'
in_client curl -s -o /dev/null --compressed "$shop/v1/catalogue" -H 'traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
in_client curl -s -o /dev/null -X POST "$shop/v1/orders" -H 'Content-Type: application/json' -H 'Authorization: Bearer very-secret' -d '{"sku":"A-17","quantity":2}'
in_client curl -s -o /dev/null -X POST "$shop/v1/checkout?api_key=k-123456" -H 'Content-Type: application/json' -d '{"card":"none"}'
in_client curl -s -o /dev/null -I "$shop/v1/catalogue"
in_client curl -s -o /dev/null -F 'note=hello' -F "picture=@$work/www/v1/cart;type=image/png" "$shop/v1/upload"
in_client curl -s -o /dev/null -d 'user=ada&password=lovelace' http://10.244.3.4/login
in_client curl -s -o /dev/null http://10.244.3.4/admin
in_client curl -s -o /dev/null -H 'Transfer-Encoding: chunked' -H 'Content-Type: application/json' -d '{"sku":"C-01","quantity":9}' "$shop/v1/orders"
in_client python3 - <<'PY'
import socket
s = socket.create_connection(("10.244.2.9", 8080))
s.sendall(b"".join(b"GET /v1/cart?n=%d HTTP/1.1\r\nHost: shop\r\n\r\n" % n for n in range(3)) + b"GET /v1/cart?n=3 HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
while s.recv(65536): pass
PY
in_client bash -c 'exec 3<>/dev/tcp/10.244.2.9/8081' 2>/dev/null || true
until [ "$(stat -c %s "$work/shop.pcap")" -gt 20000 ]; do sleep 0.1; done
sleep 0.5; kill -INT "$dump"; wait "$dump" || true
install -m 644 "$work/shop.pcap" "$out"
echo "recorded $(stat -c %s "$out") bytes in $out"
