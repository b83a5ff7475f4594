#!/usr/bin/env bash
# Remake the shipped force field issnet-ala2 from the training frames in the checkout (about 10 minutes on one core).
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:-runs/issnet-ala2}
data=systems/alanine-dipeptide/training/frames.h5
bias=systems/alanine-dipeptide/reference/bias.npz
export MLSIM_PATH="$work"

# 1. force matching
mlsim train issnet "$data" --epochs 12 --batch 32 --lr 2e-3 --ema 0.99 --seed 1 --threads 1 -o "$work/fit1"
mlsim export "$work/fit1" --name first -o "$work/forcefields"
mlsim verify first

# 2. what that model does to the populations: two flattened runs under the bias of the data
mlsim run alanine-dipeptide --solvent issnet:first --bias "$bias" --ns 6 --replicas 2 --report-ps 0.5 --seed 21 \
  --platform Reference -o "$work/flat"

# 3. population matching
mlsim train populations "$work/fit1" --run "$work/flat" --data "$data" --discard-ps 1200 --pairs 32 --epochs 3 \
  --weight 0.3 --threads 1 -o "$work/fit2"
mlsim export "$work/fit2" --name issnet-ala2 -o "$work/forcefields"
mlsim verify issnet-ala2
