#!/usr/bin/env bash
# An energy-based model of alanine dipeptide's conformations as a force field of its own: no molecular mechanics, no
# force labels. The frames are of a run with a fixed bias on phi and psi; the bias stays in the ensemble that is learned
# and is left out of the model, so that every frame counts, those on barriers too. Every step is tested on a small scale;
# the full length (about 15 minutes of one core) has not been trained yet, and its surface not been measured. Both are
# what python -m benchmarks.ebm_peptide is for.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:-runs/ebm-ala2}
export MLSIM_PATH="$work"
place=systems/alanine-dipeptide

mlsim train ebm $place/training/frames-10ns.h5 --bias $place/reference/bias.npz --frames 20000 --epochs 12 --batch 32 \
  --warm 0.92 --steps 5 --step-length 0.05 --threads 1 -o "$work/fit"
mlsim export "$work/fit" --name ebm-ala2 -o "$work/forcefields"
mlsim verify ebm-ala2
mlsim run alanine-dipeptide --solvent learned:ebm-ala2 --ns 0.2 --report-ps 0.5 --bias $place/reference/bias.npz \
  --seed 1 -o "$work/run"
mlsim fes "$work/run" --cv phi psi -o "$work/fes"
