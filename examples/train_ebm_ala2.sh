#!/usr/bin/env bash
# An energy-based model of alanine dipeptide's conformations as a force field of its own, without molecular mechanics
# and without force labels: the whole road, about 70 minutes. The frames are of a run with a fixed bias on phi
# and psi; the bias stays in the ensemble that is learned and is left out of the model, so that every frame counts.
# Everything else is the recipe for molecules (mlsim.workflow.training.ebm): what is learned are the frames with 0.003 nm of noise
# on every atom, by denoising and by contrast with underdamped chains of the model. In the second, shorter fit no chain
# is started afresh, so that they have time to feel the weights of the basins.
#
# The result ships as ebm-ala2; python -m benchmarks.ebm_peptide compares its surface with explicit water.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:-runs/ebm-ala2}
export MLSIM_PATH="$work"
place=systems/alanine-dipeptide

learn="mlsim train ebm $place/training/frames-10ns.h5 --bias $place/reference/bias.npz"
$learn --threads 1 -o "$work/first"
$learn --threads 2 -o "$work/fit" --begin-at "$work/first" --warm 0 --reset 0 --epochs 5 --lr 1e-3
mlsim export "$work/fit" --name ebm-ala2 -o "$work/forcefields"
mlsim verify ebm-ala2
mlsim run alanine-dipeptide --solvent learned:ebm-ala2 --ns 0.1 --timestep-fs 4 --report-ps 0.5 --replicas 8 \
  --context shared --bias $place/reference/bias.npz --seed 1 -o "$work/run"
mlsim fes "$work/run" --cv phi psi -o "$work/fes"
