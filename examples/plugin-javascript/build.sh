#!/bin/sh
# Builds dist/celsius.wasm. Needs Node.js 20 or newer, and the npm registry the first time.
set -eu
cd "$(dirname "$0")"
[ -d node_modules/@bytecodealliance/componentize-js ] || npm install --no-package-lock --no-audit --no-fund
npm run build
