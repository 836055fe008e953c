#!/usr/bin/env bash
# The tables of docs/measurements.md for a Hopper GPU: every element against the oracle, and times beside the peers.
#
#   scripts/hopper.sh [FOLDER]      writes verify.txt, bench.md, mlp.md and their .json there; default: target/hopper
#
# Needs python3 with torch and triton for the peers, and humming-kernels on PYTHONPATH for that one; what is missing is
# left out, with the reason.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-target/hopper}
mkdir -p "$out"
nvfp4() { cargo run --quiet --release --locked --features cuda --bin nvfp4 -- "$@"; }

nvfp4 doctor
nvfp4 verify --backend cuda --suite contest,hopper,quick --check all | tee "$out/verify.txt"
nvfp4 bench --backend cuda --suite hopper --peers bench/peers/gpu.py --markdown "$out/bench.md" --json > "$out/bench.json"
nvfp4 bench --backend cuda --mlp --peers bench/peers/mlp.py --markdown "$out/mlp.md" --json > "$out/mlp.json"
cat "$out/bench.md" "$out/mlp.md"
