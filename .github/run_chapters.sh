#!/usr/bin/env bash
# run_chapters.sh FOLDER: run every notebook of the folder with this machine's Python, each from an empty folder. Fails if a
# cell of one fails, after running all, or if another torch is there than before.
set -uo pipefail

version() { python3 -c 'from importlib import metadata; print(metadata.version("torch"))'; }

before=$(version)
failed=""
for chapter in "$1"/*.ipynb; do
  empty=$(mktemp -d)
  cp "$chapter" "$empty"
  (cd "$empty" && python3 -m nbconvert --to notebook --execute --stdout ./*.ipynb >/dev/null 2>errors.txt) \
    || { failed="$failed $(basename "$chapter")"; tail -n 30 "$empty/errors.txt"; }
  rm -rf "$empty"
done
if [ "$(version)" != "$before" ]; then
  echo "torch was $before and is $(version)" >&2
  exit 1
fi
if [ -n "$failed" ]; then
  echo "failed:$failed" >&2
  exit 1
fi
