#!/usr/bin/env bash
# Builds the library for aarch64 and runs the tests of the CPU part in qemu's user mode, on three CPUs: one with dot
# products and products of matrices (`max`), one with dot products alone, and one with neither. That shows that results
# are right, and that the CPU's instructions are found; it says nothing about time. Left out, for they take minutes
# under the emulator: very long K, panels of many rows, the table of all operations, numbers of threads with W4A16; and
# most tests on the second CPU, whose kernels run on the first one as well.
set -euo pipefail
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
root=/usr/aarch64-linux-gnu

missing=()
command -v qemu-aarch64 >/dev/null || missing+=("qemu-aarch64 (apt-get install qemu-user)")
command -v aarch64-linux-gnu-gcc >/dev/null || missing+=("aarch64-linux-gnu-gcc (apt-get install gcc-aarch64-linux-gnu)")
[ -e "$root/lib/ld-linux-aarch64.so.1" ] || missing+=("$root/lib (apt-get install libc6-dev-arm64-cross)")
# Without rustup, a toolchain has the target or has not.
[ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ] || rustup target add "$target" ||
    missing+=("Rust for $target (rustup target add $target)")
if [ ${#missing[@]} != 0 ]; then
    printf 'aarch64.sh: there is no %s\n' "${missing[@]}" >&2
    exit 1
fi

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
tests=(cargo test --target "$target" --locked --package nvfp4-dual-gemm --no-default-features --lib --test library)
"${tests[@]}" --no-run

# What the CPU must have, and filters of tests.
on() {
    local cpu="$1" isas="$2" begin=$SECONDS
    shift 2
    printf '\n== qemu-aarch64 -cpu %s: %s\n' "$cpu" "$isas"
    # A test that starts itself has to do it by the emulator.
    export NVFP4_TEST_RUNNER="qemu-aarch64 -L $root -cpu $cpu" NVFP4_TEST_ISAS="$isas"
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$NVFP4_TEST_RUNNER" "${tests[@]}" -- "$@"
    printf '== -cpu %s: %d s\n' "$cpu" "$((SECONDS - begin))"
}
on max i8mm,neon,portable cpu:: dtype:: engine:: format:: formats:: isa:: operations:: \
    --skip cpu::panels --skip operations::any --skip operations::every --skip operations::long --skip operations::panels
on neoverse-n1 neon,portable isa:: cpu::gates cpu::integer operations::paths
on cortex-a72 portable isa:: format::kernels::tests::bytes operations::a_gemm

# The command and what it is made of; the emulator of GPUs is no part of that.
cargo check --target "$target" --workspace --exclude emulator --locked
