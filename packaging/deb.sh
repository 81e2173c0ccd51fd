#!/usr/bin/env bash
# packaging/deb.sh BINARY FOLDER: packs a release binary of this machine as a Debian package.
set -euo pipefail
cd "$(dirname "$0")/.."

assets=target/assets
rm -rf "$assets"
packaging/assets.sh "$1" "$assets"
gzip -9nf "$assets"/man/*
install -D -m 755 "$1" "$assets/dbtrigger"
PATH=$PWD/target/tools/bin:$PATH
command -v cargo-deb >/dev/null || cargo install --locked --quiet --root target/tools --version 3.8.0 cargo-deb
mkdir -p "$2"
cargo deb --no-build --no-strip --locked --output "$2"
