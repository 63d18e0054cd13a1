#!/usr/bin/env bash
# Installs the packages of scripts/apt-packages.txt that belong to the named groups and are missing. Quick when nothing is missing.
#
#   scripts/apt-install.sh run|test ...
set -euo pipefail
list=$(dirname "$0")/apt-packages.txt
need=() want=()
while read -r group package; do
  for asked in "$@"; do
    [ "$group" = "$asked" ] && need+=("$package")
    [ "$group" = "$asked?" ] && want+=("$package")
  done
done < <(sed 's/#.*//; /^[[:space:]]*$/d' "$list")

is_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing=()
for package in "${need[@]}" "${want[@]}"; do is_installed "$package" || missing+=("$package"); done
[ ${#missing[@]} -gt 0 ] || exit 0

command -v apt-get >/dev/null || {
  echo "Sightline's set-up knows Debian 12 and Ubuntu 24.04 (apt-get not found). Install by hand: ${missing[*]}" >&2
  exit 1
}
as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "These packages are missing and this is neither root nor a machine with sudo: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"; }

echo "Installing ${missing[*]}"
apt update
install=()
for package in "${missing[@]}"; do
  if [[ " ${want[*]} " == *" $package "* ]] && ! apt-cache show "$package" >/dev/null 2>&1; then
    echo "$package is not packaged here: what needs it is skipped, and says so"
  else
    install+=("$package")
  fi
done
[ ${#install[@]} -eq 0 ] || apt install -y --no-install-recommends "${install[@]}" >/dev/null
