#!/bin/sh
# Makes the PTX of this folder with nvcc 13.5: make.sh NVCC
set -e
cd "$(dirname "$0")"
"${1:-nvcc}" -std=c++17 -lineinfo -arch=compute_100a -ptx -o features.ptx features.cu
sed -i "s|$PWD/||" features.ptx
