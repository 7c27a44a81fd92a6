#!/usr/bin/env bash
# Checks what is deployed: the chart lints and renders with every values file of deploy/tests, refuses the wrong ones,
# and every configuration in it is accepted by the real program, environment included. Dashboards and alerts use only
# metrics that the sources name.
#
#   deploy/check.sh            with the programs in WIRECALL_BIN_DIR, else with those that it builds
#   deploy/check.sh --chart    the chart alone, without the programs
set -euo pipefail
cd "$(dirname "$0")"

readonly HELM_VERSION=3.22.0
# Kubernetes releases to render for: the oldest that the chart admits, and a present one.
readonly KUBERNETES=(1.27.0 1.34.0)
readonly CHART=helm/wirecall

say() { echo "check: $*"; }
fail() { echo "check: FAILED: $*" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Helm, from the path or built once into the cache that the tests' components use.
find_helm() {
  if command -v helm > /dev/null 2>&1; then command -v helm; return; fi
  local cache=${WIRECALL_CACHE:-${XDG_CACHE_HOME:-${HOME:?set WIRECALL_CACHE}/.cache}/wirecall}
  local place=$cache/helm/$HELM_VERSION
  if [ ! -x "$place/bin/helm" ]; then
    command -v go > /dev/null 2>&1 || fail "helm is missing, and so is Go to build it: install helm 3"
    say "go install helm $HELM_VERSION (3 minutes on two cores, once)" >&2
    mkdir -p "$cache/helm"
    (
      flock 9
      if [ ! -x "$place/bin/helm" ]; then
        rm -rf "$place.unfinished"
        GOBIN=$place.unfinished/bin GOFLAGS='' go install "helm.sh/helm/v3/cmd/helm@v$HELM_VERSION" >&2
        mv "$place.unfinished" "$place"
      fi
    ) 9> "$place.lock"
  fi
  echo "$place/bin/helm"
}

render() { # VALUES KUBERNETES OUTPUT
  "$helm" template test "$CHART" --namespace wirecall --kube-version "$2" --values "$1" > "$3"
}

# The TOML of each ConfigMap into a folder, one file each.
extract_configs() { # MANIFEST FOLDER
  awk -v folder="$2" '
    /^  [a-z]+\.toml: \|/ { name = $1; sub(/:$/, "", name); file = folder "/" name; printf "" > file; inside = 1; next }
    inside && /^    / { print substr($0, 5) > file; next }
    inside && NF { inside = 0; close(file) }' "$1"
}

# Names of the variables that a service gets in a manifest.
variables_of() { # MANIFEST SERVICE
  grep -oE "name: WIRECALL_${2^^}__[A-Za-z0-9_.]+" "$1" | sed 's/^name: //' | sort -u || true
}

check_config() { # MANIFEST TOML
  local component service
  component=$(basename "$2" .toml)
  service=${component/watcher/enricher}
  local -a environment=()
  while read -r name; do [ -z "$name" ] || environment+=("$name=example"); done < <(variables_of "$1" "$service")
  env -i "${environment[@]}" "$programs/wirecall-$service" --config "$2" --check-config > "$work/answer" 2>&1 \
    || { cat "$2" "$work/answer" >&2; fail "wirecall-$service refuses $component.toml"; }
}

# A property that holds for every manifest, told by a line that must (not) be there.
must_not_hold() { # MANIFEST PATTERN REASON
  ! grep -nE "$2" "$1" >&2 || fail "$1: $3"
}

check_security() { # MANIFEST
  must_not_hold "$1" 'privileged: true|SYS_ADMIN|hostPID: true|hostPath:' "more rights than packet capture needs"
  must_not_hold "$1" 'verbs:.*(create|update|patch|delete|\*)' "the watcher only reads"
  must_not_hold "$1" 'resources: \[.*(secrets|configmaps)' "the watcher reads no secrets"
}

check_values() { # VALUES
  local name manifest
  name=$(basename "$1" .yaml)
  "$helm" lint --strict --quiet "$CHART" --kube-version "${KUBERNETES[-1]}" --values "$1" > "$work/lint" 2>&1 \
    || { cat "$work/lint" >&2; fail "helm lint with $1"; }
  for version in "${KUBERNETES[@]}"; do
    manifest=$work/$name-$version.yaml
    render "$1" "$version" "$manifest" || fail "helm template with $1 for Kubernetes $version"
    check_security "$manifest"
  done
  mkdir -p "$work/$name"
  extract_configs "$manifest" "$work/$name"
  for toml in "$work/$name"/*.toml; do
    [ -s "$toml" ] || fail "no configuration was rendered with $1"
    [ -z "$programs" ] || check_config "$manifest" "$toml"
  done
  say "values $name: $(grep -c '^kind:' "$manifest") objects, $(find "$work/$name" -name '*.toml' | wc -l) configurations"
}

check_refused() { # VALUES
  local expected
  expected=$(sed -n '1s/^# expect: //p' "$1")
  if render "$1" "${KUBERNETES[-1]}" "$work/refused" 2> "$work/error"; then fail "$1 was not refused"; fi
  grep -qF -- "$expected" "$work/error" || { cat "$work/error" >&2; fail "$1: the message does not name $expected"; }
}

# Objects of optional APIs follow what the cluster knows.
check_optional() {
  local plain=$work/plain.yaml known=$work/known.yaml kind
  render tests/values/minimal.yaml "${KUBERNETES[-1]}" "$plain"
  "$helm" template test "$CHART" --kube-version "${KUBERNETES[-1]}" --values tests/values/minimal.yaml \
    --api-versions monitoring.coreos.com/v1/PodMonitor --api-versions monitoring.coreos.com/v1/PrometheusRule > "$known"
  for kind in PodMonitor PrometheusRule; do
    must_not_hold "$plain" "^kind: $kind" "$kind in a cluster that does not know it"
    grep -q "^kind: $kind" "$known" || fail "no $kind in a cluster that knows it"
  done
}

helm=$(find_helm)
programs=
if [ "${1:-}" != --chart ]; then
  programs=${WIRECALL_BIN_DIR:-}
  if [ -z "$programs" ]; then
    cargo build --quiet -p wirecall-capture -p wirecall-dissector -p wirecall-enricher --bins
    programs=${CARGO_TARGET_DIR:-$(cd .. && pwd)/target}/debug
  fi
  for service in capture dissector enricher; do
    [ -x "$programs/wirecall-$service" ] || fail "no program $programs/wirecall-$service: is WIRECALL_BIN_DIR right?"
  done
fi

for values in tests/values/*.yaml; do check_values "$values"; done
for values in tests/refused/*.yaml; do check_refused "$values"; done
check_optional
say "refused as it should be: $(find tests/refused -name '*.yaml' | wc -l) values files"
tests/metrics.sh
say "ok"
