#!/usr/bin/env bash
# packaging/assets.sh BINARY FOLDER: writes completions and manual pages, which the program generates itself.
set -euo pipefail

mkdir -p "$2/completions"
"$1" completions bash > "$2/completions/dbtrigger.bash"
"$1" completions zsh > "$2/completions/_dbtrigger"
"$1" completions fish > "$2/completions/dbtrigger.fish"
"$1" completions powershell > "$2/completions/dbtrigger.ps1"
"$1" --quiet man "$2/man"
