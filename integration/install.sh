#!/usr/bin/env bash
# Installs what is missing, by package name, and says so. Run again it does nothing.
#   install.sh build|test|bench|lint ...
set -euo pipefail

say() { echo "install: $*"; }
missing=()
# need COMMAND-OR-FILE PACKAGE: remembers the package when neither a command nor a file of that name exists
need() { command -v "$1" > /dev/null 2>&1 || [ -e "$1" ] || missing+=("$2"); }
header() { # HEADER PACKAGE: a C header in any of the usual places
  [ -e "/usr/include/$1" ] || ls /usr/include/*/"$1" > /dev/null 2>&1 || missing+=("$2")
}

for purpose in "$@"; do
  case $purpose in
    build)
      need cc build-essential; need make make; need pkg-config pkg-config; need perl perl; need cmake cmake
      header openssl/ssl.h libssl-dev; header zlib.h zlib1g-dev ;;
    test)
      need java openjdk-17-jre-headless; need mvn maven; need curl curl; need ip iproute2; need nginx nginx-light
      need etcd etcd-server; need git git ;;
    bench)
      need java openjdk-17-jre-headless; need mvn maven; need nginx nginx-light; need wrk wrk; need tcpdump tcpdump
      need ip iproute2; need ethtool ethtool; need tshark tshark; need jq jq; need /usr/bin/time time; need python3 python3 ;;
    lint) ;;
    *) echo "install.sh: unknown purpose: $purpose (build, test, bench or lint)" >&2; exit 64 ;;
  esac
done

if [ ${#missing[@]} -gt 0 ]; then
  mapfile -t packages < <(printf '%s\n' "${missing[@]}" | sort -u)
  if [ "$(id -u)" != 0 ]; then
    echo "install.sh: missing packages: ${packages[*]}; run as root, or: sudo apt-get install ${packages[*]}" >&2
    exit 77
  fi
  say "apt-get install ${packages[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # The servers are started by the tests themselves; their packages must not start them.
  policy=/usr/sbin/policy-rc.d
  [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' > "$policy"; chmod +x "$policy"; trap 'rm -f "$policy"' EXIT; }
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=600 "${packages[@]}" > /dev/null
fi

if ! command -v cargo > /dev/null 2>&1; then
  echo "install.sh: cargo is missing; install Rust with rustup (rust-toolchain.toml names the version)" >&2
  exit 69
fi

for purpose in "$@"; do
  if [ "$purpose" = lint ] && ! cargo deny --version > /dev/null 2>&1; then
    say "cargo install cargo-deny (a few minutes, once)"
    cargo install --quiet --locked cargo-deny
  fi
  if [ "$purpose" = bench ] && ! command -v suricata > /dev/null 2>&1; then
    say "suricata from bookworm-backports, through a private list"
    "$(dirname "$0")/bench/install-suricata.sh" || say "suricata could not be installed; its rows will be missing"
  fi
done
