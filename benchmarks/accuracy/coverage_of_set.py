"""Which torsions, rotamers and distances of charges do the explicit-water frames cover, by kind of residue?

A model is an interpolation: what its frames do not hold, it does not know. For every kind of residue in the training
part of the packed set: the share of (phi, psi) cells of 30 degrees in which some frame lies (of those that the residue
can reach at all in any dipeptide: cells with a frame of any kind), the shares of its three chi1 rotamers, and for pairs
of unlike and like charges a histogram of their distance.

    python -m benchmarks.accuracy.coverage_of_set
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import mdtraj
import numpy as np

from benchmarks.result import RESULTS, Claim, write_result
from mlsim.analysis import observables
from mlsim.chem.molecule import Molecule
from mlsim.workflow.training.peptide_solvent_fit import peptides_of

mpl.use("Agg")
import matplotlib.pyplot as plt

PACKED = Path(__file__).resolve().parents[2] / "systems" / "peptides" / "training"
CELLS = 12
#: Atom that carries the charge of a side chain, and its sign.
CHARGED = {"ARG": ("CZ", 1), "LYS": ("NZ", 1), "HIP": ("CE1", 1), "ASP": ("CG", -1), "GLU": ("CD", -1)}
EDGES = np.linspace(0.2, 1.8, 17)


def torsions(molecule: Molecule, positions: np.ndarray, topology: mdtraj.Topology) -> dict[str, dict[str, np.ndarray]]:
    """Residue kind -> name of the torsion -> values [F], rad."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for residue in topology.residues:
        values = {}
        for name in ("phi", "psi", "chi1"):
            spec = f"{name}:{residue.resSeq}"
            try:
                values[name] = observables.evaluate(positions, topology, (spec,))[:, 0]
            except Exception:
                continue
        if values:
            found[f"{molecule.residue_names[next(residue.atoms).index]} {residue.index}"] = values
    return found


def charges(topology: mdtraj.Topology) -> list[tuple[int, int]]:
    """Atom and sign of every charged side chain or free end."""
    found = []
    residues = [r for r in topology.residues if r.name not in ("ACE", "NME", "NHE")]
    for r in residues:
        atom, sign = CHARGED.get(r.name, ("", 0))
        found += [(a.index, sign) for a in r.atoms if a.name == atom]
    names = {a.name for a in residues[-1].atoms}
    if "OXT" in names:
        found += [(a.index, -1) for a in residues[-1].atoms if a.name == "C"]
    if "H3" in {a.name for a in residues[0].atoms} or (
        residues[0].index == 0 and "H2" in {a.name for a in residues[0].atoms}
    ):
        found += [(a.index, 1) for a in residues[0].atoms if a.name == "N"]
    return found


def main() -> None:
    """Count, draw, write."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    cells: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((CELLS, CELLS), dtype=int))
    rotamers: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(3, dtype=int))
    distances = {
        "unlike charges": np.zeros(len(EDGES) - 1, dtype=int),
        "like charges": np.zeros(len(EDGES) - 1, dtype=int),
    }
    for peptide, molecule in peptides_of(PACKED, "training"):
        topology = mdtraj.Topology.from_openmm(molecule.topology)
        positions = np.asarray(peptide.frames.positions, dtype=np.float64)
        for key, values in torsions(molecule, positions, topology).items():
            kind = key.split()[0]
            if "phi" in values and "psi" in values:
                place = [
                    np.minimum(((values[n] + np.pi) / (2 * np.pi) * CELLS).astype(int), CELLS - 1)
                    for n in ("phi", "psi")
                ]
                np.add.at(cells[kind], tuple(place), 1)
            if "chi1" in values:
                rotamers[kind] += np.bincount(
                    (np.mod(values["chi1"], 2 * np.pi) / (2 * np.pi / 3)).astype(int) % 3, minlength=3
                )
        charged = charges(topology)
        for k, (a, sign) in enumerate(charged):
            for b, other in charged[k + 1 :]:
                d = np.linalg.norm(positions[:, a] - positions[:, b], axis=1)
                distances["unlike charges" if sign * other < 0 else "like charges"] += np.histogram(d, EDGES)[0]
    reachable = sum((c > 0).astype(int) for name, c in cells.items() if not name.startswith(("GLY", "PRO"))) > 0
    rows: list[dict[str, Any]] = []
    for kind in sorted(cells):
        here = cells[kind] > 0
        share = (
            float(here.sum() / max(reachable.sum(), 1)) if not kind.startswith(("GLY", "PRO")) else float(here.mean())
        )
        chi = rotamers[kind] / max(rotamers[kind].sum(), 1) if kind in rotamers else None
        rows.append(
            {"residue": kind, "frames": int(cells[kind].sum()), "cells": share,
             "rotamers": None if chi is None else [round(float(v), 3) for v in chi]}
        )  # fmt: skip
    rows += [
        {"pairs": name, "edges_nm": EDGES.round(2).tolist(), "frames": found.tolist()}
        for name, found in distances.items()
    ]
    draw(cells, rotamers, distances)
    least = min(row["cells"] for row in rows if "residue" in row)
    rare = min(min(row["rotamers"]) for row in rows if row.get("rotamers"))
    contact = distances["unlike charges"]
    covered = bool((contact[1:13] > 0).all())
    write_result(
        "accuracy.coverage_of_set",
        __doc__.splitlines()[0],
        rows,
        [
            Claim(
                "9-coverage",
                "smallest share of covered (phi, psi) cells of a kind of residue",
                least,
                ">= 0.5",
                least >= 0.5,
            ),
            Claim("9-coverage", "smallest share of a chi1 rotamer of a kind of residue", rare, ">= 0.02", rare >= 0.02),
            Claim(
                "9-coverage",
                "distances of unlike charges from 0.3 to 1.5 nm without an empty bin",
                float(covered),
                "= 1",
                covered,
            ),
        ],
    )


def draw(cells: dict[str, np.ndarray], rotamers: dict[str, np.ndarray], distances: dict[str, np.ndarray]) -> None:
    """One small Ramachandran map per kind, rotamers below it, distances at the end."""
    kinds = sorted(cells)
    across = 8
    down = -(-len(kinds) // across) + 1
    figure, axes = plt.subplots(down, across, figsize=(1.5 * across, 1.6 * down), squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    for axis, kind in zip(axes.ravel(), kinds, strict=False):
        axis.set_axis_on()
        axis.imshow(np.log1p(cells[kind].T), origin="lower", extent=(-180, 180, -180, 180), cmap="viridis")
        text = (
            ""
            if kind not in rotamers
            else "  " + "/".join(f"{100 * v:.0f}" for v in rotamers[kind] / rotamers[kind].sum())
        )
        axis.set_title(kind + text, fontsize=6)
        axis.set_xticks([-180, 0, 180])
        axis.set_yticks([-180, 0, 180])
        axis.tick_params(labelsize=5)
    grid = axes[-1, 0].get_gridspec()
    wide = figure.add_subplot(grid[-1, :])
    middle = 0.5 * (EDGES[1:] + EDGES[:-1])
    for name, found in distances.items():
        wide.step(middle, found, where="mid", label=name)
    wide.set_yscale("log")
    wide.set_xlabel("distance of charges (nm)", fontsize=7)
    wide.set_ylabel("frames", fontsize=7)
    wide.tick_params(labelsize=6)
    wide.legend(fontsize=6)
    figure.suptitle(
        "Covered (phi, psi), degrees, log of frames; chi1 rotamers in % (0-120/120-240/240-360)", fontsize=8
    )
    figure.tight_layout()
    figure.savefig(RESULTS / "accuracy-coverage_of_set.png", dpi=130)


if __name__ == "__main__":
    main()
