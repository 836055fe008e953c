#!/usr/bin/env bash
# Runs the unit tests of the formats, the element types, the GLU and the comparison under Miri, where the nightly
# toolchain has it. Miri sees the portable kernels: the vector ones are not compiled for it.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! cargo +nightly miri --version >/dev/null 2>&1; then
    echo "miri.sh: skipped, the nightly toolchain has no miri component (rustup +nightly component add miri)"
    exit 0
fi
MIRIFLAGS="-Zmiri-disable-isolation" cargo +nightly miri test --package nvfp4-dual-gemm --no-default-features --lib -- format:: dtype:: glu:: oracle::
