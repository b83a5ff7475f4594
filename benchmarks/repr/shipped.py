"""Trains the BEiTs shipped in mlsim/repr/pretrained and writes their cards: do they predict hidden patches?

    beit-extension-map     BEiT on extension maps of single frames of alanine dipeptide, tripeptide and chignolin
    beit-ramachandran      BEiT on Ramachandran densities of windows of 25 to 200 frames of the same peptides

Data: the training runs of ``benchmarks.repr.peptides`` and the force data shipped for alanine dipeptide; the last tenth
of each is kept back for the masked accuracy in the card. Scores of ``beit-extension-map`` on held-out runs are in
``repr-features.json``; ``beit-ramachandran`` is judged by its card, which compares it with the plain pixels.

    python -m benchmarks.repr.shipped --work runs/peptides [--only beit-ramachandran]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from benchmarks.repr.peptides import SOURCES, trajectory
from mlsim.analysis import observables
from mlsim.dataset import storage
from mlsim.repr import images
from mlsim.repr.beit.beit_network import NetworkSettings
from mlsim.repr.beit.beit_pretrain import PretrainSettings, masked_accuracy, pretrain
from mlsim.repr.beit.patch_target import Words
from mlsim.repr.beit.visual_tokenizer import PatchKMeans
from mlsim.repr.densities import ramachandran_windows
from mlsim.repr.encoder import InputSettings
from mlsim.repr.shipped_encoders import PRETRAINED

SEED = 7
KEPT_BACK = 0.1
#: Explicit water, flattened over phi and psi: every third frame.
FORCE_DATA = Path(__file__).resolve().parents[2] / "systems" / "alanine-dipeptide" / "training" / "frames.h5"
FRAMES = InputSettings(kind="extension-map", atoms="heavy", size=24)


def frame_maps(work: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Extension maps of the training runs and of the shipped force data: to learn from, and kept back."""
    learn, kept = [], []
    runs = {name: trajectory(name, "train", work) for name in SOURCES}
    parts = [(run.replicas[0].positions(), run.topology) for run in runs.values()]
    parts.append((storage.load(FORCE_DATA).positions[::3], runs["alanine-dipeptide"].topology))
    for positions, topology in parts:
        found = images.prepare(positions, topology, FRAMES)
        cut = round(len(found) * (1.0 - KEPT_BACK))
        learn.append(found[:cut])
        kept.append(found[cut:])
    return np.concatenate(learn), np.concatenate(kept)


#: Residues of the peptides with both torsions.
TORSIONS = {"alanine-dipeptide": (2,), "alanine-tripeptide": (2, 3), "chignolin": tuple(range(2, 10))}
WINDOWS = (25, 50, 100, 200)


def densities(work: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Ramachandran densities of windows of the same runs, residue by residue; no window lies in both parts."""
    learn, kept = [], []
    angles = []
    for name, residues in TORSIONS.items():
        made = trajectory(name, "train", work)
        specs = [f"{torsion}:{residue}" for residue in residues for torsion in ("phi", "psi")]
        angles.append(np.asarray(observables.evaluate(made.replicas[0].positions(), made.topology, specs)))
        if name == "alanine-dipeptide":
            frames = storage.load(FORCE_DATA).positions[::3]
            angles.append(np.asarray(observables.evaluate(frames, made.topology, specs)))
    for columns in angles:
        cut = round(len(columns) * (1.0 - KEPT_BACK))
        for part, found in ((columns[:cut], learn), (columns[cut:], kept)):
            for window in (w for w in WINDOWS if w <= len(part)):
                for k in range(0, part.shape[1], 2):
                    step = window // 2
                    found.append(ramachandran_windows(part[:, k], part[:, k + 1], window=window, step=step, bins=24)[0])
    return np.concatenate(learn), np.concatenate(kept)


@dataclass(frozen=True)
class Plan:
    """One encoder: what its card says, how it is made."""

    name: str
    summary: str
    data: str
    make: Callable[[Path], tuple[NDArray[np.float32], NDArray[np.float32]]]
    inputs: InputSettings
    words: int
    network: NetworkSettings
    settings: PretrainSettings


FRAME_MAPS = Plan(
    "beit-extension-map",
    "frames of peptides; states from few labels (use --pool grid)",
    "heavy atoms of alanine dipeptide (5 ns of issnet at 450 K; 10,000 frames of explicit water, "
    "systems/alanine-dipeptide/training), alanine tripeptide (2 ns, vacuum, 450 K), "
    "chignolin (0.1 ns, vacuum, 400 K); "
    "the training runs of benchmarks/repr/peptides.py",
    frame_maps,
    FRAMES,
    128,
    NetworkSettings(size=24, patch=6, hidden=64, layers=3, heads=4, feedforward=128, layer_scale=1.0, positions="both"),
    PretrainSettings(steps=1000, batch=32, warmup=60, learning_rate=3e-3, every=100),
)
DENSITIES = Plan(
    "beit-ramachandran",
    "Ramachandran densities of windows of a trajectory, 24 x 24 (mlsim.repr.densities); see encode_densities.py",
    "windows of 25, 50, 100 and 200 frames, half overlapping, of every residue with phi and psi, of the runs that "
    "beit-extension-map was trained on",
    densities,
    InputSettings(kind="array", size=24),
    64,
    NetworkSettings(size=24, patch=4, hidden=64, layers=3, heads=4, feedforward=128, layer_scale=1.0, positions="both"),
    PretrainSettings(steps=800, batch=32, warmup=60, learning_rate=3e-3, every=100),
)
PLANS = (FRAME_MAPS, DENSITIES)


def make(plan: Plan, work: Path) -> None:
    """Train one encoder and write it with its card."""
    learn, kept = plan.make(work)
    images_ = torch.from_numpy(learn)[:, None]
    tokenizer = PatchKMeans.fit(images_, words=plan.words, patch=plan.network.patch, seed=SEED)
    encoder = pretrain(
        learn,
        Words(tokenizer),
        plan.network,
        plan.settings,
        seed=SEED,
        inputs=plan.inputs,
        checkpoint=work / f"{plan.name}.pt",
        progress=lambda step, steps: print(f"{plan.name} {step}/{steps}", flush=True) if step % 100 == 0 else None,
    )
    right, most = masked_accuracy(encoder, kept, plan.settings, seed=SEED)
    place = encoder.save(PRETRAINED / plan.name)
    card = {
        "name": plan.name,
        "summary": plan.summary,
        "data": plan.data,
        "command": f"python -m benchmarks.repr.shipped --only {plan.name}",
        "images": len(learn),
        "network": plan.network.model_dump(),
        "pretraining": plan.settings.model_dump(),
        "words": plan.words,
        "seed": SEED,
        "scores": {"masked_accuracy_kept_back": round(right, 4), "most_frequent_word": round(most, 4)},
    }
    (place / "card.yaml").write_text(yaml.safe_dump(card, sort_keys=False, width=110))
    print(f"{plan.name}: masked accuracy {right:.3f}, most frequent word {most:.3f}")


def main() -> None:
    """Train the encoders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/peptides"))
    parser.add_argument("--only", default="", help="part of the names of the encoders to train")
    given = parser.parse_args()
    for plan in (p for p in PLANS if given.only in p.name):
        make(plan, given.work)


if __name__ == "__main__":
    main()
