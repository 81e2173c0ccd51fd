#!/usr/bin/env bash
# Runs the command of the input in this process, so that signals and the exit code are the program's own.
set -euo pipefail

python=$(command -v python3 || command -v python)
# Quotes count as in a shell, but nothing is expanded: what comes from an event cannot become a command.
arguments=()
while IFS= read -r -d '' argument; do
    arguments+=("$argument")
done < <("$python" -c 'import os, shlex, sys
sys.stdout.buffer.write(b"".join(word.encode() + b"\0" for word in shlex.split(os.environ["DBTRIGGER_COMMAND"])))')
# An unclosed quote leaves nothing.
if [ ${#arguments[@]} -eq 0 ]; then
    echo "::error title=dbtrigger::the input \"command\" cannot be read: is a quote missing?"
    exit 2
fi
exec dbtrigger "${arguments[@]}"
