#!/usr/bin/env bash
# deb.sh BINARY DIRECTORY: makes DIRECTORY/lyre_VERSION_ARCHITECTURE.deb of BINARY and the files in rootfs/. Twice the same is
# the same package, bit for bit. LEVEL: how hard xz tries.
set -euo pipefail
binary=$1 directory=$2
cd "$(dirname "$0")/../.."
umask 022
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
architecture=$(dpkg --print-architecture)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"

cp -r rootfs/etc rootfs/usr "$tree"
install -D -m 755 "$binary" "$tree/usr/bin/lyre"
documentation=$tree/usr/share/doc/lyre
install -d "$documentation"
install -m 644 README.md "$documentation"
cp -r docs "$documentation"
gzip -9nc CHANGELOG.md > "$documentation/changelog.gz"
{ echo "Lyre. License: Apache-2.0, as follows."; echo; cat LICENSE; } > "$documentation/copyright"
for shell in bash zsh fish; do
  case $shell in
    bash) path=bash-completion/completions/lyre ;;
    zsh) path=zsh/vendor-completions/_lyre ;;
    fish) path=fish/vendor_completions.d/lyre.fish ;;
  esac
  install -d "$tree/usr/share/$(dirname $path)"
  "$binary" completions $shell > "$tree/usr/share/$path"
done

# Of the binary's libraries the packages that bring them, in the versions their symbol files ask for.
work=$(mktemp -d)
mkdir -p "$work/debian"
printf 'Source: lyre\n\nPackage: lyre\nArchitecture: any\n' > "$work/debian/control"
absolute=$(realpath "$binary")
depends=$(cd "$work" && dpkg-shlibdeps -O "$absolute" 2>/dev/null | sed -n 's/^shlibs:Depends=//p') || depends=
rm -rf "$work"
[ -n "$depends" ] || depends="libc6 (>= 2.36), libgcc-s1"

install -d "$tree/DEBIAN"
install -m 755 rootfs/DEBIAN/{postinst,prerm,postrm} "$tree/DEBIAN"
install -m 644 rootfs/DEBIAN/conffiles "$tree/DEBIAN"
size=$(du -ks --apparent-size --exclude=DEBIAN "$tree" | cut -f1)
sed -e "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@SIZE@/$size/; s/@DEPENDS@/$depends/" \
  rootfs/DEBIAN/control.in > "$tree/DEBIAN/control"
(cd "$tree" && find . -type f -not -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum) > "$tree/DEBIAN/md5sums"
find "$tree" -exec touch --no-dereference --date=@"$SOURCE_DATE_EPOCH" {} +

mkdir -p "$directory"
dpkg-deb --root-owner-group -Zxz -z"${LEVEL:-6}" --build "$tree" "$directory/lyre_${version}_$architecture.deb"
