#!/usr/bin/env bash
# packaging/debian11.sh WHEEL FOLDER: installs the wheel on Debian 11 (glibc 2.31) and runs the demo. Needs root and
# debootstrap, which unpacks the system into FOLDER on first use.
set -euo pipefail

root=$2
if [ ! -e "$root/ready" ]; then
    debootstrap --variant=minbase --include=python3,python3-venv,python3-requests bullseye "$root"
    touch "$root/ready"
fi
# The demo finds its own executable there.
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
trap 'umount "$root/proc"' EXIT
rm -rf "$root/install"
mkdir "$root/install"
cp "$1" "$root/install/"
chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/root bash -euc '
    ldd --version | head -1
    cd /install
    python3 -m venv --system-site-packages venv
    venv/bin/pip install --quiet --no-index ./*.whl
    venv/bin/dbtrigger --version
    venv/bin/dbtrigger demo
'
