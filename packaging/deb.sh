#!/usr/bin/env bash
# packaging/deb.sh BINARY FOLDER: builds a Debian package from a release binary for this machine.
set -euo pipefail
cd "$(dirname "$0")/.."

assets=target/assets
rm -rf "$assets"
packaging/assets.sh "$1" "$assets"
gzip -9nf "$assets"/man/*
install -D -m 755 "$1" "$assets/dbtrigger"
PATH=$PWD/target/tools/bin:$PATH
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
cat > "$assets/changelog" <<CHANGES
dbtrigger ($version-1) unstable; urgency=medium

  * Version $version.

 -- The dbtrigger authors <dbtrigger@example.com>  $(git log -1 --format=%cD 2>/dev/null || date -R)
CHANGES
command -v cargo-deb >/dev/null || cargo install --locked --quiet --debug --root target/tools --version 3.8.0 cargo-deb
mkdir -p "$2"
cargo deb --no-build --no-strip --output "$2"
