#!/usr/bin/env bash
# packaging/archive.sh TARGET FOLDER: packs the release binary of TARGET with completions, manual pages, README and licenses
# into FOLDER, as .tar.gz (.zip for Windows), with a .sha256 file. For a cross build, whose binary cannot run here,
# DBTRIGGER names a binary of the same version that writes completions and manual pages.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$1
folder=$2
case $target in *windows*) exe=.exe ;; *) exe= ;; esac
binary=target/$target/release/dbtrigger$exe
[ -e "$binary" ] || binary=target/release/dbtrigger$exe
name=dbtrigger-$target
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/$name" "$folder"
packaging/assets.sh "${DBTRIGGER:-$binary}" "$stage/$name"
cp "$binary" README.md LICENSE-APACHE LICENSE-MIT "$stage/$name/"
# Fixed order, owner and time make the archive reproducible.
stamp=$(git log -1 --format=%ct 2>/dev/null || echo 0)
if [ -n "$exe" ]; then
    archive=$name.zip
    (cd "$stage" && python -m zipfile -c "$archive" "$name")
    mv "$stage/$archive" "$folder/"
else
    archive=$name.tar.gz
    tar=tar
    ! command -v gtar >/dev/null || tar=gtar
    "$tar" --sort=name --mtime="@$stamp" --owner=0 --group=0 --numeric-owner -C "$stage" -cf - "$name" | gzip -9n > "$folder/$archive"
fi
cd "$folder"
if command -v sha256sum >/dev/null; then sha256sum "$archive"; else shasum -a 256 "$archive"; fi > "$archive.sha256"
