#!/bin/sh
# Makes the fat binaries of this folder with nvcc 13.5: make.sh NVCC
set -e
cd "$(dirname "$0")"
make() {
    name=$1
    shift
    "$NVCC" -fatbin -o "$name.fatbin" "$@" twice.cu
}
NVCC=${1:-nvcc}
make plain --no-compress -gencode arch=compute_100a,code=compute_100a
# Default compression, zstd; for two devices.
make zstd -gencode arch=compute_90a,code=compute_90a -gencode arch=compute_100a,code=compute_100a
make lz4 --compress-mode=speed -gencode arch=compute_100f,code=compute_100f
make sass --compress-mode=size -gencode arch=compute_90,code=sm_90
