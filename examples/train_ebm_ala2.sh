#!/usr/bin/env bash
# An energy-based model of alanine dipeptide's conformations as a force field of its own, without molecular mechanics
# and without force labels: the whole road, about 20 minutes of one core. The frames are of a run with a fixed bias on phi
# and psi; the bias stays in the ensemble that is learned and is left out of the model, so that every frame counts.
#
# The model runs stably at 2 fs but does not have the surface of its frames, so it does not ship; what was tried and
# what each try gave is in benchmarks/ebm_peptide.py. Clusters of points (dw4, lj13) are learned well, see
# benchmarks/ebm_openmm.py.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:-runs/ebm-ala2}
export MLSIM_PATH="$work"
place=systems/alanine-dipeptide

mlsim train ebm $place/training/frames-10ns.h5 --bias $place/reference/bias.npz --frames 20000 --epochs 6 --batch 32 \
  --warm 0.5 --most-noise 0.5 --steps 20 --step-length 0.05 --threads 1 -o "$work/fit"
mlsim export "$work/fit" --name ebm-ala2 -o "$work/forcefields"
mlsim verify ebm-ala2
mlsim run alanine-dipeptide --solvent learned:ebm-ala2 --ns 0.1 --timestep-fs 2 --report-ps 0.5 \
  --bias $place/reference/bias.npz --seed 1 -o "$work/run"
mlsim fes "$work/run" --cv phi psi -o "$work/fes"
