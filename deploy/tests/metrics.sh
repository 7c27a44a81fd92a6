#!/usr/bin/env bash
# Every metric in the dashboards and alerts is named in the sources of the services. With an address it is looked for in
# the /metrics of running services instead: tests/metrics.sh 127.0.0.1:9464 ...
set -euo pipefail
cd "$(dirname "$0")/.."

# Names of metrics in PromQL expressions: words that start with a service's name or with `process_`.
used() {
  { python3 - dashboards/*.json << 'PYTHON'
import json, sys
def expressions(value):
    if isinstance(value, dict):
        if isinstance(value.get("expr"), str):
            print(value["expr"])
        for inner in value.values():
            expressions(inner)
    elif isinstance(value, list):
        for inner in value:
            expressions(inner)
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        expressions(json.load(file))
PYTHON
  # Expressions of alerts may go over several lines; no other line has a word of that form.
  grep -vE '^ *(#|summary:|description:)' alerts/*.yaml; } \
    | grep -oE '\b(capture|dissector|enricher|process)_[a-z0-9_]+' | sort -u
}

# The end of the name as the source spells it: without the service, and without what the exporters add.
known_in_sources() { # NAME
  local rest=${1#*_}
  rest=${rest%_bucket}; rest=${rest%_sum}; rest=${rest%_count}
  grep -rqE "(\"|\}_)((capture|dissector|enricher|process)_)?${rest%_total}(_total)?\"" --include='*.rs' ../schemas ../capture ../dissector ../enricher
}

failed=0
exported=
for address in "$@"; do exported+=$(curl --silent --fail "http://$address/metrics")$'\n'; done
count=0
for name in $(used); do
  count=$((count + 1))
  if [ $# -gt 0 ]; then
    grep -qE "^$name(\{| )" <<< "$exported" || { echo "metrics: $name is not exported" >&2; failed=1; }
  else
    known_in_sources "$name" || { echo "metrics: no source names $name" >&2; failed=1; }
  fi
done
[ "$failed" = 0 ] || exit 1
echo "metrics: all $count that dashboards and alerts use are exported"
