#!/usr/bin/env bash
# Records on an H100 what tests/hopper.rs compares the emulator with: record.sh prepare FOLDER, on the machine that
# builds; record.sh run FOLDER INTO, on the machine with the GPU; then INTO is tests/data/h100.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
gemm=sm90_f16_128x128_c2x1
case "$1" in
prepare)
    root="$here/../../.."
    cuda="$root/third_party/cuda" cutlass="$root/third_party/cutlass"
    mkdir -p "$2"
    for program in "$here/tma" "$here/probes" "$here/../stock/$gemm"; do
        "$cuda/bin/nvcc" -std=c++17 -O3 -DNDEBUG --expt-relaxed-constexpr -cudart shared \
            -gencode 'arch=compute_90a,code=[sm_90a,compute_90a]' -I "$cutlass/include" -I "$cutlass/tools/util/include" \
            -L "$cuda/lib" -o "$2/$(basename "$program")" "$program.cu"
    done
    cp -L "$cuda/lib/libcudart.so.13" "$here/record.sh" "$2"
    EMULATOR_WRITE_OPERANDS="$(realpath "$2")/gemm" cargo test -p emulator --test hopper cutlass_on_hopper
    ;;
run)
    export LD_LIBRARY_PATH="$2"
    mkdir -p "$3"
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader >"$3/device.txt"
    "$2/tma" "$3/tma.bin"
    "$2/probes" "$3/probes.bin"
    : >"$3/gemm.txt"
    for folder in "$2"/gemm/*; do
        kind=rounded
        [ "$(basename "$folder")" -ge 3 ] || kind=exact
        # shellcheck disable=SC2046 # Three words.
        "$2/$gemm" $(cat "$folder/shape") 1 0.5 "$folder"
        printf '%s %s ' "$(cat "$folder/shape")" "$kind" >>"$3/gemm.txt"
        # FNV-1a, 64 bits, as in tests/hopper.rs.
        python3 - "$folder/d.bin" >>"$3/gemm.txt" <<'PYTHON'
import sys

h = 0xCBF29CE484222325
for byte in open(sys.argv[1], "rb").read():
    h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
print(f"{h:016x}")
PYTHON
    done
    ;;
*)
    echo "record.sh prepare FOLDER | run FOLDER INTO" >&2
    exit 2
    ;;
esac
