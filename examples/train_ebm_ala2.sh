#!/usr/bin/env bash
# An energy-based model of alanine dipeptide's conformations as a force field of its own: no molecular mechanics, no
# force labels; the bias of the frames is undone by weights. Every step is tested on a small scale; how good the surface
# of the full length is has not been measured yet.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:-runs/ebm-ala2}
export MLSIM_PATH="$work"

mlsim train ebm systems/alanine-dipeptide/training/frames.h5 --frames 20000 --epochs 8 --batch 32 --warm 0.9 --steps 5 \
  --threads 1 -o "$work/fit"
mlsim export "$work/fit" --name ebm-ala2 -o "$work/forcefields"
mlsim verify ebm-ala2
mlsim run alanine-dipeptide --solvent learned:ebm-ala2 --timestep-fs 1 --ns 0.05 --report-ps 0.1 --seed 1 -o "$work/run"
mlsim fes "$work/run" --cv phi psi -o "$work/fes"
