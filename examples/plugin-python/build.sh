#!/bin/sh
# Builds dist/celsius.wasm. Needs Python 3.11 or newer, and the package index the first time.
set -eu
cd "$(dirname "$0")"
[ -x .venv/bin/componentize-py ] || { python3 -m venv .venv && .venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt; }
mkdir -p dist
# --stub-wasi: nothing is imported but the plugin contract; clocks and files are not there.
.venv/bin/componentize-py --wit-path ../../sdk/wit --world plugin componentize --stub-wasi --output dist/celsius.wasm celsius
.venv/bin/python manifest.py plugin.toml dist/celsius.wasm
