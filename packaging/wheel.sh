#!/usr/bin/env bash
# packaging/wheel.sh [TARGET] [FOLDER]: builds the wheel for this machine, or for TARGET, into FOLDER (target/wheels).
# On Linux, zig links against glibc 2.17 (or musl), so the wheel runs on every distribution.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:-$(rustc -vV | sed -n 's/^host: //p')}
folder=${2:-target/wheels}
tools=target/packaging
if [ ! -e "$tools/ready" ] || [ packaging/requirements.txt -nt "$tools/ready" ]; then
    python=$(command -v python3 || command -v python)
    "$python" -m venv "$tools"
    if [ -d "$tools/Scripts" ]; then bin=$tools/Scripts; else bin=$tools/bin; fi
    "$bin/python" -m pip install --quiet --requirement packaging/requirements.txt
    touch "$tools/ready"
fi
if [ -d "$tools/Scripts" ]; then bin=$tools/Scripts; else bin=$tools/bin; fi
PATH=$PWD/$bin:$PATH
case $target in
    *-linux-gnu) linux=(--zig --compatibility manylinux2014) ;;
    *-linux-musl) linux=(--zig --compatibility musllinux_1_2) ;;
    *) linux=() ;;
esac
maturin build --release --locked --target "$target" --out "$folder" ${linux[@]+"${linux[@]}"}
