"""Trains the BEiT shipped in mlsim/repr/pretrained and writes its card: does it predict hidden patches?

    beit-extension-map     BEiT on extension maps of single frames of alanine dipeptide, tripeptide and chignolin

Data: the training runs of ``benchmarks.repr.peptides`` and the force data shipped for alanine dipeptide; the last tenth
of each is kept back for the masked accuracy in the card. Scores on held-out runs are in ``repr-features.json``.

    python -m benchmarks.repr.shipped --work runs/peptides
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from benchmarks.repr.peptides import SOURCES, trajectory
from mlsim.dataset import storage
from mlsim.repr import images
from mlsim.repr.beit.network import NetworkSettings
from mlsim.repr.beit.pretrain import PretrainSettings, masked_accuracy, pretrain
from mlsim.repr.beit.target import Words
from mlsim.repr.beit.tokenizer import PatchKMeans
from mlsim.repr.encoder import InputSettings
from mlsim.repr.registry import PRETRAINED

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


@dataclass(frozen=True)
class Plan:
    """One encoder: what its card says, how it is made."""

    name: str
    summary: str
    data: str
    inputs: InputSettings
    words: int
    network: NetworkSettings
    settings: PretrainSettings


PLAN = Plan(
    "beit-extension-map",
    "frames of peptides; states from few labels (use --pool grid)",
    "heavy atoms of alanine dipeptide (5 ns of issnet at 450 K; 10,000 frames of explicit water, "
    "systems/alanine-dipeptide/training), alanine tripeptide (2 ns, vacuum, 450 K), "
    "chignolin (0.1 ns, vacuum, 400 K); "
    "the training runs of benchmarks/repr/peptides.py",
    FRAMES,
    128,
    NetworkSettings(size=24, patch=6, hidden=64, layers=3, heads=4, feedforward=128, layer_scale=1.0, positions="both"),
    PretrainSettings(steps=1000, batch=32, warmup=60, learning_rate=3e-3, every=100),
)


def make(plan: Plan, learn: NDArray[np.float32], kept: NDArray[np.float32], work: Path) -> None:
    """Train one encoder and write it with its card."""
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
        "command": "python -m benchmarks.repr.shipped",
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
    """Train the encoder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/peptides"))
    work = parser.parse_args().work
    make(PLAN, *frame_maps(work), work)


if __name__ == "__main__":
    main()
