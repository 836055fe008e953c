#!/usr/bin/env bash
# Everything that can be tested without a GPU: fetches compiler and CUTLASS, builds all kernels, runs the tests of Rust
# and C++, those of the device on an emulated B200 and H100, proves that the SM100 kernels synchronize, and compares the
# machine code of all with docs/sm100-instances.md and docs/sm90-instances.md.
set -euo pipefail
cd "$(dirname "$0")/.."
# The emulator takes the place of a shared runtime only.
export NVFP4_CUDART=shared
# What cannot be tested here is an error: libemulator.so that is missing, bindings that bindgen did not make.
export NVFP4_TEST_ALL=1
target="${CARGO_TARGET_DIR:-target}"

third_party/fetch.sh --proof
# The workspace: cargo builds libemulator.so as a member of it.
cargo test --workspace --locked --features nccl
# The folder that the build script and the tests have just used.
native="$(ls -td "$target"/debug/build/nvfp4-dual-gemm-*/out/build | head -1)"
scripts/static_proof.py --build "$native"
scripts/machine_code.py --build "$native" --check
