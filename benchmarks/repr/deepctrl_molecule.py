"""Alanine dipeptide as two problems for a rule with a dial: where the atoms go next, and energy against temperature.

Both come from runs of ``mlsim run`` in the learned solvent, made once in the work directory and resumed if interrupted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mlsim.analysis import observables
from mlsim.chem.catalog import load_system
from mlsim.md.settings import RunSettings
from mlsim.records import RunRecord
from mlsim.repr.deepctrl.molecule_rules import grows_with, sound_geometry
from mlsim.repr.deepctrl.propagation import lagged_pairs
from mlsim.repr.deepctrl.rules import Rule
from mlsim.runs.trajectory import Run
from mlsim.workflow.simulation.run import run

SYSTEM = "alanine-dipeptide"
REPORT_PS = 0.2
#: Frames between a conformation and the one that is predicted.
LAG = 3
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
        system=SYSTEM, solvent="issnet", ns=ns, temperature_K=temperature_K, seed=seed,
        report_ps=REPORT_PS, platform="Reference",
    )  # fmt: skip
    # a finished run is taken as it is, also when the shipped force field has been replaced since
    if not ((place / "run.json").exists() and RunRecord.read(place).status == "complete"):
        run(settings, place, "resume" if (place / "run.json").exists() else "new")
    return Run.open(place)


def motion(made: Run) -> Pairs:
    """Conformations and those 0.6 ps later, superposed on the heavy atoms of the shipped structure."""
    heavy = np.array([a.index for a in made.topology.atoms if a.element.symbol != "H"])
    return Pairs(*lagged_pairs(made.replicas[0].positions(), load_system(SYSTEM).positions, heavy, LAG))


def geometry_rule(made: Run) -> Rule:
    """Bonds near their usual lengths and no clashes."""
    bonds = np.array([[a.index, b.index] for a, b in made.topology.bonds])
    elements = [a.element.symbol for a in made.topology.atoms]
    return sound_geometry(bonds, elements, made.replicas[0].positions())


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
