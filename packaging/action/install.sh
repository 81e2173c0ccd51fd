#!/usr/bin/env bash
# Installs dbtrigger into the runner's temporary folder and adds it to the PATH of later steps.
set -euo pipefail

python=$(command -v python3 || command -v python) || {
    echo "::error title=dbtrigger::Python is needed to install dbtrigger: add actions/setup-python before this step"
    exit 1
}
folder=$RUNNER_TEMP/dbtrigger
options=(--quiet --disable-pip-version-check --no-deps --only-binary :all: --upgrade --target "$folder")
if [ -n "$DBTRIGGER_WHEEL" ]; then
    options+=(--no-index)
    package=$DBTRIGGER_WHEEL
else
    # `latest` is refused, because it would make pipelines unreproducible.
    if [[ ! $DBTRIGGER_VERSION =~ ^[0-9]+\.[0-9]+\.[0-9]+([abrc.]+[0-9]+)?$ ]]; then
        echo "::error title=dbtrigger::version must name one version, such as 0.1.0; got \"$DBTRIGGER_VERSION\""
        exit 2
    fi
    [ -z "$DBTRIGGER_INDEX_URL" ] || options+=(--index-url "$DBTRIGGER_INDEX_URL")
    package=dbtrigger==$DBTRIGGER_VERSION
fi
"$python" -m pip install "${options[@]}" "$package"
if [ -d "$folder/Scripts" ]; then bin=$folder/Scripts; else bin=$folder/bin; fi
echo "$bin" >> "$GITHUB_PATH"
"$bin/dbtrigger" --version
