#!/usr/bin/env bash
# packaging/check.sh: builds wheel, archive and Debian package of this machine, and installs and runs each of them.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(rustc -vV | sed -n 's/^host: //p')
rm -rf target/wheels target/archives
packaging/wheel.sh "$target"
wheel=$(echo target/wheels/*.whl)
binary=target/$target/release/dbtrigger

tools=$PWD/target/packaging/bin
# W007: there is no Python code in it.
"$tools/check-wheel-contents" --ignore W007 "$wheel"
"$tools/twine" check --strict "$wheel"
"$tools/auditwheel" show "$wheel" | tee target/wheels/audit.txt
grep -q 'manylinux_2_17' target/wheels/audit.txt || { echo "the wheel asks for more than glibc 2.17"; exit 1; }
size=$(stat -c %s "$binary")
echo "binary: $size bytes; wheel: $(stat -c %s "$wheel") bytes"

packaging/archive.sh "$target" target/archives
(cd target/archives && sha256sum --check ./*.sha256)
packaging/deb.sh "$binary" target/archives

PATH=$tools:$PATH WHEEL=$wheel DEB=$(echo target/archives/*.deb) DBTRIGGER=$binary \
    python3 -m unittest discover --verbose --start-directory tests/packaging
