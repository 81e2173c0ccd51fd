#!/usr/bin/env bash
# Replaces this process with the command from the input, so signals and the exit code are the program's own.
set -euo pipefail

python=$(command -v python3 || command -v python)
# Splits words like a shell but expands nothing, so text from an event cannot become a command.
arguments=()
while IFS= read -r -d '' argument; do
    arguments+=("$argument")
done < <("$python" -c 'import os, shlex, sys
sys.stdout.buffer.write(b"".join(word.encode() + b"\0" for word in shlex.split(os.environ["DBTRIGGER_COMMAND"])))')
# An unclosed quote leaves no arguments.
if [ ${#arguments[@]} -eq 0 ]; then
    echo "::error title=dbtrigger::the input \"command\" cannot be read: is a quote missing?"
    exit 2
fi
exec dbtrigger "${arguments[@]}"
