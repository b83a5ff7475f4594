"""Alanine dipeptide as two problems for a rule with a dial: where the atoms go next, and energy against temperature.

Both come from runs of ``mlsim run`` in the learned solvent, made once in the work directory and resumed if interrupted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mdtraj
import numpy as np
import torch
from torch import Tensor

from mlsim.analysis import observables
from mlsim.md.settings import RunSettings
from mlsim.md.trajectory import Run
from mlsim.repr.deepctrl.molecule_rules import bond_bounds, grows_with, no_clash
from mlsim.repr.deepctrl.rules import All, Rule
from mlsim.workflow.run import run

REPORT_PS = 0.2
#: Frames between a conformation and the one that is predicted.
LAG = 3
#: A bond may be this share longer or shorter than usual; atoms three or more bonds apart may be this near, nm.
BOND_TOLERANCE = 0.1
CLOSEST_NM = {0: 0.16, 1: 0.20, 2: 0.24}
#: Temperatures of the energy model: where it learns, and where it is asked.
KNOWN_K, ASKED_K = (300.0, 350.0, 400.0), (300.0, 350.0, 400.0, 450.0, 500.0, 550.0)
KELVIN = 100.0


@dataclass(frozen=True)
class Pairs:
    """Inputs x [n, D] and targets y [n, O]."""

    x: Tensor
    y: Tensor

    def take(self, low: int, high: int) -> tuple[Tensor, Tensor]:
        """Rows ``low`` to ``high``."""
        return self.x[low:high], self.y[low:high]


def trajectory(work: Path, temperature_K: float, ns: float, seed: int) -> Run:
    """A run of alanine dipeptide in the learned solvent."""
    place = work / f"ala2-{temperature_K:g}K-{seed}"
    settings = RunSettings(
        system="alanine-dipeptide", solvent="issnet", ns=ns, temperature_K=temperature_K, seed=seed,
        report_ps=REPORT_PS, platform="Reference",
    )  # fmt: skip
    run(settings, place, "resume" if (place / "run.json").exists() else "new")
    return Run.open(place)


def motion(made: Run) -> Pairs:
    """Conformations and those 0.6 ps later, superposed on the first heavy atoms' frame, float32 [n, 66] (nm)."""
    topology = made.topology
    whole = mdtraj.Trajectory(made.replicas[0].positions(), topology)
    heavy = [a.index for a in topology.atoms if a.element.symbol != "H"]
    reference = mdtraj.Trajectory(_reference(), topology)
    whole.superpose(reference, atom_indices=heavy)
    flat = torch.from_numpy(whole.xyz.reshape(len(whole.xyz), -1).astype(np.float32))
    return Pairs(flat[:-LAG], flat[LAG:])


def _reference() -> np.ndarray:
    from mlsim.chem.catalog import load_system

    return np.asarray(load_system("alanine-dipeptide").positions, dtype=np.float32)[None]


def geometry_rule(made: Run) -> Rule:
    """Bonds near their usual lengths and no clashes, both counted as relative breaches."""
    topology, positions = made.topology, made.replicas[0].positions()
    bonds = np.array([[a.index, b.index] for a, b in topology.bonds])
    usual = np.linalg.norm(positions[:, bonds[:, 0]] - positions[:, bonds[:, 1]], axis=2).mean(0)
    near = np.zeros((topology.n_atoms, topology.n_atoms), dtype=bool)
    near[bonds[:, 0], bonds[:, 1]] = near[bonds[:, 1], bonds[:, 0]] = True
    within_two = near | ((near.astype(int) @ near.astype(int)) > 0)
    apart = np.array(
        [[i, j] for i in range(topology.n_atoms) for j in range(i + 1, topology.n_atoms) if not within_two[i, j]]
    )
    heavy = np.array([a.element.symbol != "H" for a in topology.atoms], dtype=int)
    closest = np.array([CLOSEST_NM[int(heavy[i] + heavy[j])] for i, j in apart])
    return All([bond_bounds(bonds, usual, BOND_TOLERANCE), no_clash(apart, closest)], [1.0, 1.0])


def heat(runs: dict[float, Run], frames: int, generator: np.random.Generator) -> Pairs:
    """``frames`` frames of each temperature: (T / 100 K, cos, sin of phi and psi) and the potential energy, kJ/mol."""
    rows, energies = [], []
    for temperature, made in runs.items():
        replica = made.replicas[0]
        angles = observables.evaluate(replica.positions(), made.topology, ["phi", "psi"])
        index = generator.choice(np.arange(len(angles) // 5, len(angles)), size=frames, replace=False)
        chosen = angles[index]
        rows.append(np.column_stack([np.full(frames, temperature / KELVIN), np.cos(chosen), np.sin(chosen)]))
        energies.append(replica.potential()[index])
    x, y = np.concatenate(rows), np.concatenate(energies)[:, None]
    order = generator.permutation(len(x))
    return Pairs(torch.from_numpy(x[order].astype(np.float32)), torch.from_numpy(y[order].astype(np.float32)))


def heat_rule() -> Rule:
    """The mean energy does not fall when the temperature grows by up to 100 K."""
    return grows_with(0, 1.0)
