#!/usr/bin/env bash
# The life of a contract whose weights can be replaced, on a local anvil: deploy MNIST, check it, put the weights of a
# model in use that was trained again, check that, go back, check again, freeze; from then on an update is refused.
#
#     bash examples/lifecycle.sh [samples.npz]     # ml2sc from .venv if that is there, else from PATH
#
# retrained.onnx was made by `python -m examples.mnist.train --data mnist.npz --seed 1`.
set -euo pipefail
samples=$(realpath "${1:-$(dirname "${BASH_SOURCE[0]}")/mnist/samples.npz}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -d .venv ]; then PATH=$PWD/.venv/bin:$PATH; fi

mnist=examples/mnist
work=$(mktemp -d)
node=
finish() {
    if [ -n "$node" ]; then kill "$node" && wait "$node" || true; fi
    rm -rf "$work"
}
trap finish EXIT

step() {
    printf '\n=== %s\n' "$1"
}

step 'a local chain'
anvil=$(python -c 'from ml2sc.runtime.toolchain import find_anvil; print(find_anvil())')
"$anvil" --port 0 >"$work/anvil.log" 2>&1 &
node=$!
for _ in $(seq 100); do
    address=$(sed -n 's/^Listening on //p' "$work/anvil.log")
    if [ -n "$address" ]; then break; fi
    sleep 0.1
done
chain=http://$address
echo "anvil at $chain"
pay=(--chain "$chain" --unlocked --yes)

step 'compile, weights to be replaced later'
ml2sc-compile $mnist/mnist.onnx --precision int8 --calibrate $mnist/calibration.npz --updatable -o "$work/first"

step 'deploy'
ml2sc-deploy "$work/first" "${pay[@]}"

step 'check: code, weights, and every answer'
ml2sc-check "$work/first" --chain "$chain" --samples "$samples"

step 'update: the same network, trained again'
ml2sc-update "$work/first" "${pay[@]}" --model $mnist/retrained.onnx --samples "$samples" -o "$work/second"

step 'check against the new model'
ml2sc-check "$work/second" --chain "$chain" --samples "$samples"

step 'roll back'
ml2sc-update "$work/second" "${pay[@]}" --rollback

step 'check against the old model'
ml2sc-check "$work/first" --chain "$chain" --samples "$samples"

step 'freeze'
ml2sc-update "$work/first" "${pay[@]}" --freeze

step 'an update is refused'
if ml2sc-update "$work/first" "${pay[@]}" --model $mnist/retrained.onnx -o "$work/third" 2>"$work/refusal"; then
    echo 'a frozen contract was updated' >&2
    exit 1
fi
cat "$work/refusal"
grep -q 'the contract is frozen' "$work/refusal"
ml2sc-check "$work/first" --chain "$chain" --samples "$samples"

step 'done'
