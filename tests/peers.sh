#!/usr/bin/env bash
# Installs what the tests and benchmarks need beside Rust, from Debian's packages, when it is missing.
# Usage: tests/peers.sh build|test|bench   (each includes the one before it)
set -euo pipefail

want=${1:-test}
# command:package. A command that exists is not installed again.
build=(cc:gcc make:make git:git cmake:cmake ip:iproute2)
test=(keepalived:keepalived haproxy:haproxy nginx:nginx-light apache2:apache2 php-fpm8.2:php-fpm curl:curl chromium:chromium wrk:wrk
       h2load:nghttp2-client mariadbd:mariadb-server dnsmasq:dnsmasq-base tshark:tshark tcpdump:tcpdump cadaver:cadaver openssl:openssl sslscan:sslscan setpriv:util-linux
      setcap:libcap2-bin nft:nftables socat:socat ping:iputils-ping arping:iputils-arping pgrep:procps python3:python3
      systemd-analyze:systemd dpkg-shlibdeps:dpkg-dev strip:binutils dockerd:docker.io)
bench=(perf:linux-perf)

list=("${build[@]}")
[ "$want" = build ] || list+=("${test[@]}")
[ "$want" != bench ] || list+=("${bench[@]}")

# h2spec is in no Debian package. The module proxy has its releases only up to 2.2.1, as `latest`; without Go the test
# that needs it says that it is skipped.
peers="$(cd "$(dirname "$0")/.." && pwd)/target/peers"
if [ "$want" != build ] && [ ! -x "$peers/h2spec" ]; then
  go=$(PATH="$PATH:/usr/local/go/bin" command -v go || true)
  h2spec=github.com/summerwind/h2spec/cmd/h2spec
  if [ -n "$go" ]; then
    { GOBIN="$peers" "$go" install "$h2spec@v2.6.0" || GOBIN="$peers" "$go" install "$h2spec@latest"; } 2>/dev/null ||
      echo "peers: h2spec could not be built" >&2
  fi
fi

# frpc comes from source: the version ExApps ship, and the newest. Its module replaces one it needs, so `go install` refuses it,
# and the embedded web page is made at release; any file in its place will do.
if [ "$want" != build ]; then
  go=$(PATH="$PATH:/usr/local/go/bin" command -v go || true)
  for version in 0.61.1 0.70.1; do
    [ -n "$go" ] && [ ! -x "$peers/frpc-$version" ] || continue
    mkdir -p "$peers"
    tree=$(mktemp -d)
    {
      from=$(GOFLAGS=-mod=mod "$go" mod download -json "github.com/fatedier/frp@v$version" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p') &&
        [ -n "$from" ] && cp -r "$from/." "$tree" && chmod -R u+w "$tree" &&
        mkdir -p "$tree/web/frpc/dist" && touch "$tree/web/frpc/dist/none" &&
        (cd "$tree" && CGO_ENABLED=0 GOFLAGS=-mod=mod "$go" build -trimpath -ldflags "-s -w" -o "$peers/frpc-$version" ./cmd/frpc)
    } 2>/dev/null || echo "peers: frpc $version could not be built" >&2
    rm -rf "$tree"
  done
fi

# file:package, where a package brings no command.
files=(/usr/lib/nginx/modules/ngx_stream_module.so:libnginx-mod-stream /usr/lib/galera/libgalera_smm.so:galera-4)

missing=()
if [ "$want" != build ]; then
  for pair in "${files[@]}"; do
    [ -e "${pair%%:*}" ] || missing+=("${pair#*:}")
  done
fi
for pair in "${list[@]}"; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
  echo "peers: missing ${missing[*]}. Install them as root: apt-get install ${missing[*]}" >&2
  [ "$want" = build ] || exit 0   # tests that lack their peer say so themselves and count as skipped
  exit 1
fi
echo "peers: installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1   # RUNLEVEL=1: packages must not start their services
apt-get -q update >/dev/null
apt-get -q -y --no-install-recommends install "${missing[@]}" >/dev/null
