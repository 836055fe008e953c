#!/usr/bin/env bash
# Fetches what the feature `cuda` is built with into third_party/{cuda,cutlass,tools}. Everything is pinned by hash. Does
# nothing when it is all there. Needs python3 with pip; pip's own configuration says where packages come from.
#
#   --proof     also what the static proof runs on, into third_party/proof
#   --range     also the oldest CUDA and the newest CUTLASS that CI tries, into third_party/{cuda-oldest,cutlass-newest}
#   --dest DIR  into DIR instead of third_party; builds find it there with NVFP4_TOOLCHAIN_DIR=DIR
set -euo pipefail

fail() {
    printf 'third_party/fetch.sh: %s\n' "$1" >&2
    exit 1
}

here="$(cd "$(dirname "$0")" && pwd)"
dest="$here"
sets=(build)
while [ $# -gt 0 ]; do
    case "$1" in
        --proof) sets+=(proof) ;;
        --range) sets+=(range) ;;
        --dest)
            [ -n "${2-}" ] || fail "--dest needs a folder"
            dest="$2"
            shift
            ;;
        *) fail "unknown argument $1; there are --proof, --range and --dest DIR" ;;
    esac
    shift
done

platform="$(uname -s) $(uname -m)"
[ "$platform" = "Linux x86_64" ] ||
    fail "the pinned packages are for Linux x86_64, and this is $platform. Use your own toolkit and CUTLASS: set CUDA_HOME and CUTLASS_DIR."
mkdir -p "$dest" 2>/dev/null && [ -w "$dest" ] ||
    fail "cannot write to $dest; name another folder with --dest DIR, and set NVFP4_TOOLCHAIN_DIR to it"
dest="$(cd "$dest" && pwd)"

for set in "${sets[@]}"; do
    pins="requirements-$set.txt"
    stamp="$dest/.fetched-$set"
    wanted="$(cd "$here" && cat "$pins" unpack.py | sha256sum)"
    case "$set" in
        build) folders="cuda cutlass tools" ;;
        proof) folders="proof" ;;
        range) folders="cuda-oldest cutlass-newest" ;;
    esac
    complete=yes
    for folder in $folders; do
        [ -d "$dest/$folder" ] || complete=no
    done
    if [ "$complete" = yes ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        continue
    fi
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null || fail "needs python3, 3.8 or later"
    python3 -m pip --version >/dev/null 2>&1 || fail "needs pip (on Debian and Ubuntu: apt-get install python3-pip)"
    wheels="$(mktemp -d)"
    trap 'rm -rf "$wheels"' EXIT
    echo "third_party: fetching what $pins names into $dest"
    # --no-deps: the pins are complete, and of some wheels only a folder is used.
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --dest "$wheels" -r "$here/$pins"
    python3 -B "$here/unpack.py" "$set" "$wheels" "$dest"
    printf '%s\n' "$wanted" >"$stamp"
    rm -rf "$wheels"
    echo "third_party: ready:" $folders
done
