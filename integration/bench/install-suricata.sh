#!/usr/bin/env bash
# Suricata is in Debian's backports only. Takes it from there through a private list, so that the machine's own lists stay
# as they are.
set -euo pipefail
private=$(mktemp -d)
trap 'rm -rf "$private"' EXIT
mkdir -p "$private/lists/partial" "$private/cache/archives/partial"
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2> /dev/null |
  awk '/^URIs:.*debian\/?$/ { print $2; exit } /^deb .*debian\/? / { for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) { print $i; exit } }')
[ -n "$mirror" ] || { echo "install-suricata: no Debian mirror among the apt sources" >&2; exit 69; }
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
for suite in "$release" "$release-backports"; do
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
done > "$private/sources.list"
options=(-o "Dir::Etc::sourcelist=$private/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$private/lists"
  -o "Dir::Cache=$private/cache" -o APT::Sandbox::User=root -o DPkg::Lock::Timeout=600)
export DEBIAN_FRONTEND=noninteractive
apt-get "${options[@]}" update -qq
apt-get "${options[@]}" install -y -qq --no-install-recommends -t "$release-backports" suricata > /dev/null
