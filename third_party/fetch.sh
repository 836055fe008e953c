#!/usr/bin/env bash
# Fetches what the feature `cuda` is built with into third_party/{cuda,cutlass,tools}; with --proof also what the
# static proof runs on, into third_party/proof. Everything is pinned by hash. Does nothing when it is all there.
# Needs python3 with pip; pip's own configuration says where packages come from.
set -euo pipefail
cd "$(dirname "$0")"

fail() {
    printf 'third_party/fetch.sh: %s\n' "$1" >&2
    exit 1
}

sets=(build)
case "${1-}" in
    "") ;;
    --proof) sets+=(proof) ;;
    *) fail "unknown argument $1; there is only --proof" ;;
esac

platform="$(uname -s) $(uname -m)"
[ "$platform" = "Linux x86_64" ] ||
    fail "the pinned packages are for Linux x86_64, and this is $platform. Use your own toolkit and CUTLASS: set CUDA_HOME and CUTLASS_DIR."

for set in "${sets[@]}"; do
    pins="requirements-$set.txt"
    stamp=".fetched-$set"
    wanted="$(cat "$pins" unpack.py | sha256sum)"
    case "$set" in
        build) folders="cuda cutlass tools" ;;
        proof) folders="proof" ;;
    esac
    complete=yes
    for folder in $folders; do
        [ -d "$folder" ] || complete=no
    done
    if [ "$complete" = yes ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        continue
    fi
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null || fail "needs python3, 3.8 or later"
    python3 -m pip --version >/dev/null 2>&1 || fail "needs pip (on Debian and Ubuntu: apt-get install python3-pip)"
    wheels="$(mktemp -d)"
    trap 'rm -rf "$wheels"' EXIT
    echo "third_party: fetching what $pins names"
    # --no-deps: the pins are complete, and of some wheels only a folder is used.
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --dest "$wheels" -r "$pins"
    python3 unpack.py "$set" "$wheels"
    printf '%s\n' "$wanted" >"$stamp"
    rm -rf "$wheels"
    echo "third_party: ready:" $folders
done
