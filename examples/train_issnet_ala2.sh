#!/usr/bin/env bash
# Remake the shipped force field issnet-ala2 from the training frames in the checkout (about 25 minutes on one core).
#
# The frames were made, in 25 minutes on two cores, by
#   mlsim reference alanine-dipeptide --engine gromacs --ns 10 --first-seed 201 --seeds 2 --processes 2 \
#     --record-ps 0.1 --threads 1 --bias systems/alanine-dipeptide/reference/bias.npz -o train
# and every second one of them was kept, rounded as their provenance says.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:-runs/issnet-ala2}
data=(systems/alanine-dipeptide/training/frames-seed-020[12].h5)
bias=systems/alanine-dipeptide/reference/bias.npz
export MLSIM_PATH="$work"

# 1. force matching
mlsim train issnet "${data[@]}" --activation silu --epochs 6 --batch 32 --lr 2e-3 --ema 0.99 --patience 6 --seed 1 \
  --threads 1 -o "$work/fit1"
mlsim export "$work/fit1" --name first -o "$work/forcefields"
mlsim verify first

# 2. what that model does to the populations: two flattened runs under the bias of the data
mlsim run alanine-dipeptide --solvent issnet:first --bias "$bias" --ns 8 --replicas 2 --report-ps 0.5 --seed 21 \
  --platform Reference -o "$work/flat"

# 3. population matching
mlsim train populations "$work/fit1" --run "$work/flat" --data "${data[0]}" --data "${data[1]}" --discard-ps 50 --pairs 32 --epochs 3 \
  --weight 0.3 --threads 1 -o "$work/fit2"
mlsim export "$work/fit2" --name issnet-ala2 -o "$work/forcefields"
mlsim verify issnet-ala2
