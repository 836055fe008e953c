#!/usr/bin/env bash
# Compiles one kernel of each architecture with the oldest CUDA that is claimed and with newer releases of CUTLASS than
# everything else is tested with: that the code compiles there, not that it computes the same.
#
#   scripts/version_range.sh [CUTLASS_CHECKOUT...]      those too
set -euo pipefail
cd "$(dirname "$0")/.."
third_party/fetch.sh --range
fetched="${NVFP4_TOOLCHAIN_DIR:-$PWD/third_party}"
PATH="$PATH:$fetched/tools/bin"
out="${CARGO_TARGET_DIR:-target}/version-range"
# The cheapest of each.
kernels=(sm90_widened_8x64_k128_s2 sm100_twoacc_1sm_128x64_c1x1_static)

# Unless the user has a launcher of their own. Paths are relative for the cache, as in build/cache.rs.
if [ -z "${CMAKE_CUDA_COMPILER_LAUNCHER-}" ] && [ "${NVFP4_COMPILER_CACHE-}" != off ] && command -v ccache >/dev/null; then
    export CMAKE_CUDA_COMPILER_LAUNCHER=ccache CCACHE_NOHASHDIR=true CCACHE_COMPILERCHECK=content
    export CCACHE_BASEDIR="${CCACHE_BASEDIR:-$PWD}"
fi

compile() {
    local name=$1 cuda=$2 cutlass=$3
    # What is there may be of another release.
    rm -rf "${out:?}/$name"
    mkdir -p "$out"
    cmake -G Ninja -S cpp -B "$out/$name" -DCMAKE_CUDA_COMPILER="$cuda/bin/nvcc" -DCUTLASS_DIR="$cutlass" \
        -DNVFP4_CUDA_JOBS="${NVFP4_CUDA_JOBS:-2}" >"$out/$name.log" || { cat "$out/$name.log"; return 1; }
    local objects
    objects="$(ninja -C "$out/$name" -t targets all | sed -n 's/: CUDA_COMPILER.*//p' |
        grep -E "/($(IFS='|'; echo "${kernels[*]}"))\.cu\.o$")"
    [ "$(wc -l <<<"$objects")" = "${#kernels[@]}" ] || { echo "$name: not all of ${kernels[*]} are in the build"; return 1; }
    # shellcheck disable=SC2086
    ninja -C "$out/$name" $objects
}

# CUTLASS 4.7.0 by the hash of its commit.
cutlass_470() {
    local folder=$fetched/cutlass-4.7.0 commit=dcf215af68a2d08d305076c152a06f201728cd53
    [ -d "$folder" ] && { echo "$folder"; return; }
    local fresh=$folder.fetching
    rm -rf "$fresh" && git init --quiet "$fresh"
    git -C "$fresh" fetch --quiet --depth 1 https://github.com/NVIDIA/cutlass "$commit" &&
        git -C "$fresh" -c advice.detachedHead=false checkout --quiet FETCH_HEAD -- include LICENSE.txt &&
        mv "$fresh" "$folder" && echo "$folder" && return
    rm -rf "$fresh"
    return 1
}

compile cuda-oldest "$fetched/cuda-oldest" "$fetched/cutlass"
compile cutlass-newest "$fetched/cuda" "$fetched/cutlass-newest"
if folder="$(cutlass_470)"; then
    compile cutlass-4.7.0 "$fetched/cuda" "$folder"
else
    echo "skipped: CUTLASS 4.7.0, which is on GitHub alone, cannot be fetched here"
fi
for cutlass in "$@"; do
    compile "$(basename "$cutlass")" "$fetched/cuda" "$cutlass"
done
