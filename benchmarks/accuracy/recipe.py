"""How the accuracy experiments train, sample and compare: the same few steps for all of them.

    data.h5 --(first N ns)--> train (forces) --> export, verify --> run (the bias of the data)
            --> train (populations) --> export, verify

Surfaces come from one pool of flattened frames of the shipped model, reweighted to each solvent's energy
(log w = -(U - U_pool) / kT + V / kT), the effective number of frames shown. The reference is pooled from explicit
seeds that no training saw. Each step is skipped where its result is there already, so that every experiment can be
killed and started again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch  # noqa: F401 - before openmm, or the Torch plugin fails to load
from numpy.typing import NDArray

from benchmarks.solvents import gb_energies, training_frames
from mlsim.analysis.compare import Comparison, Row, compare
from mlsim.analysis.reweight import hamiltonian
from mlsim.analysis.surfaces.pool import combine
from mlsim.analysis.surfaces.surface import FreeEnergySurface, estimate
from mlsim.chem.catalog import load_system
from mlsim.chem.molecule import Molecule
from mlsim.chem.torsions import dihedrals, ramachandran_atoms
from mlsim.deploy.artifact import ForceFieldArtifact
from mlsim.md.settings import RunSettings
from mlsim.runs.trajectory import Run
from mlsim.shapes import Floats
from mlsim.units import KJ_PER_KCAL, PS_PER_NS
from mlsim.workflow.force_fields.export_fit import export
from mlsim.workflow.force_fields.field_settings import ExportSettings
from mlsim.workflow.force_fields.force_field import load_forcefield
from mlsim.workflow.force_fields.verify_field import verify
from mlsim.workflow.simulation.second_stage import run_stages
from mlsim.workflow.training.fit_settings import IssnetSettings, PopulationsSettings
from mlsim.workflow.training.solvent_fits import TEST
from mlsim.workflow.training.train_model import train

CVS = ("phi", "psi")
DISCARD_PS = 100.0


@dataclass(frozen=True)
class Variant:
    """One way to train: name, nanoseconds of explicit data, settings of the fit that are its own, stages.

    ``labels`` is a file of mean-force labels in the scratch directory, used instead of the instantaneous forces.
    """

    name: str
    ns: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    baseline: str = "none"
    stages: tuple[str, ...] = ("forces", "populations")
    seed: int = 1
    labels: str | None = None


@dataclass
class Bench:
    """Places and what is shared between variants.

    ``work`` is the scratch directory, ``data`` the explicit training frames (a file, or a directory of
    ``frames-seed-*.h5``), ``pool`` the run that surfaces are reweighted from (made with ``pool_field``; read once),
    ``bias`` the fixed bias of the data, ``system`` a shipped system, ``most_epochs`` the largest number of passes over
    little data, ``flat_ns`` the length of each of two flattened runs.
    """

    work: Path
    data: Path
    pool: Path
    bias: Path
    pool_field: str = "issnet-ala2"
    system: str = "alanine-dipeptide"
    epochs: int = 6
    most_epochs: int = 60
    flat_ns: float = 8.0
    threads: int = 1
    molecule: Molecule = field(init=False)

    def __post_init__(self) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        self.molecule = load_system(self.system)

    @property
    def held_out(self) -> Path:
        """Where the reference surfaces and labels of the system are."""
        return Path("systems") / self.system / "reference"

    # ---- training ----

    def subset(self, ns: float) -> Path:
        """The first ``ns`` of the data, run after run."""
        path = self.work / f"data-{ns:g}ns.h5"
        if not path.exists():
            frames = training_frames(self.data)
            lengths = [frames.time_ps[frames.run == k].max() for k in np.unique(frames.run)]
            before = np.concatenate([[0.0], np.cumsum(lengths)])[frames.run]
            chosen = np.flatnonzero(before + frames.time_ps <= ns * PS_PER_NS + 1e-3)
            if sum(lengths) < ns * PS_PER_NS - 1.0:
                raise SystemExit(f"{self.data}: holds {sum(lengths) / PS_PER_NS:.2f} ns, {ns:g} asked for")
            frames.take(chosen).save(path)
        return path

    def forces(self, variant: Variant) -> Path:
        """Training directory after force matching."""
        place = self.work / f"{variant.name}-forces"
        # as many steps for little data as for much, up to a number of passes: more of them only learn the noise
        epochs = min(round(self.epochs * 20.0 / variant.ns), self.most_epochs)
        chosen: dict[str, Any] = {"seed": variant.seed, "threads": self.threads}
        if variant.labels is None:  # of labels, the rest is decided by their number
            chosen |= {"epochs": epochs, "batch_size": 32, "learning_rate": 2e-3, "ema_decay": 0.99, "patience": epochs}
            chosen |= {"activation": "silu", "baseline": variant.baseline}
            chosen |= {"system": self.system} if variant.baseline != "none" else {}
        if not (place / TEST).exists():
            data = self.subset(variant.ns) if variant.labels is None else self.work / variant.labels
            settings = IssnetSettings.parse({**chosen, **variant.settings}, variant.name)
            train(data, place, settings, _start(place / "checkpoint.pt"))
        return place

    def populations(self, variant: Variant) -> Path:
        """Training directory after population matching."""
        first = self.forces(variant)
        place = self.work / f"{variant.name}-populations"
        if not (place / TEST).exists():
            flat = self.flattened(f"issnet:{self.export(first)}", self.flat_ns, 2, seed=21)
            settings = PopulationsSettings(
                fit=first,
                run=flat,
                epochs=3,
                pairs=32,
                weight=0.3,
                discard_ps=50.0,
                seed=variant.seed,
                threads=self.threads,
            )
            train(self.subset(variant.ns), place, settings, _start(place / "checkpoint.pt"))
        return place

    def trained(self, variant: Variant) -> Path:
        """Training directory after the last stage."""
        return self.populations(variant) if "populations" in variant.stages else self.forces(variant)

    def export(self, fit: Path) -> str:
        """Verified force field of a training directory; returns its name."""
        target = self.work / "forcefields" / fit.name
        if not (target / "card.yaml").exists():
            export(fit, self.work / "forcefields", ExportSettings(name=fit.name))
        if ForceFieldArtifact.read(target).card.verified is None and not verify(target).report.passed:
            raise SystemExit(f"{target}: its verification failed; see: mlsim verify {target}")
        return fit.name

    def flattened(self, solvent: str, ns: float, replicas: int, seed: int) -> Path:
        """Run of a solvent (``issnet:NAME`` or a GB model) under the bias of the data."""
        place = self.work / f"flat-{solvent.removeprefix('issnet:')}"
        done = place.exists() and all(r.record.status == "complete" for r in Run.open(place).replicas)
        if not done:
            os.environ["MLSIM_PATH"] = str(self.work.resolve())  # force fields that were made here, by name
            settings = RunSettings(
                system=self.system,
                solvent=solvent,
                bias=str(self.bias),
                ns=ns,
                replicas=replicas,
                report_ps=0.5,
                seed=seed,
                platform="Reference" if solvent.startswith("issnet:") else "auto",
            )
            run_stages(settings, place, _start(place / "run.json"))
        return place

    # ---- surfaces ----

    @cached_property
    def frames(self) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]]:
        """Positions [F, N, 3] (nm), bias [F] (kJ/mol) and replica of the pool."""
        replicas = Run.open(self.pool).replicas
        os.environ["MLSIM_PATH"] = str(self.work.resolve())
        digest = load_forcefield(self.pool_field).artifact.digest
        if any(digest not in str(r.record.potential) for r in replicas):
            raise SystemExit(
                f"{self.pool}: not made with {self.pool_field} as it is now ({digest}); make the run again"
            )
        kept = [r.times_ps() > DISCARD_PS for r in replicas]
        positions = np.concatenate([r.positions()[k] for r, k in zip(replicas, kept, strict=True)])
        bias = np.concatenate([r.bias()[k] for r, k in zip(replicas, kept, strict=True)])
        return positions, bias, np.concatenate([np.full(k.sum(), n) for n, k in enumerate(kept)])

    def energy(self, solvent: str, positions: NDArray[np.float32]) -> NDArray[np.float64]:
        """Solvation energy of every pool frame [F], kJ/mol; kept on disk."""
        cache = self.work / f"energies-{solvent}-{len(positions)}.npy"
        if cache.exists():
            return np.load(cache)
        if solvent in ("hct", "obc1", "obc2", "gbn", "gbn2"):
            values = gb_energies(solvent, self.molecule, positions)
        elif solvent == "vacuum":
            values = np.zeros(len(positions))
        else:
            os.environ["MLSIM_PATH"] = str(self.work.resolve())
            bound = load_forcefield(solvent)
            values = bound.bind(self.molecule).evaluate(positions)[0]
            under = bound.artifact.card.baseline
            values = values + (0.0 if under == "none" else self.energy(under, positions))
        np.save(cache, values)
        return values

    def log_weights(self, solvent: str) -> Floats:
        """Log weights that turn the pool into the ensemble of a solvent (a GB model or a force field)."""
        positions, bias, _ = self.frames
        temperature = Run.open(self.pool).temperature_K
        return hamiltonian(self.energy(solvent, positions), self.energy(self.pool_field, positions), temperature, bias)

    def surface(self, solvent: str) -> FreeEnergySurface:
        """Surface of a solvent (a GB model or a force field) from the pool."""
        positions, _, run = self.frames
        angles = dihedrals(positions.astype(np.float64), ramachandran_atoms(self.molecule)[1].reshape(-1, 4))
        temperature = Run.open(self.pool).temperature_K
        found = estimate(angles, temperature, cv_names=CVS, log_weights=self.log_weights(solvent), run=run)
        return found.labelled(solvent, {"sampling": "reweighted from flattened ISSNet runs"})

    def reference(self, name: str = "surface") -> FreeEnergySurface:
        """Explicit water, pooled from the held-out seeds: the surfaces called ``NAME-seed-*.npz``."""
        files = sorted(self.held_out.glob(f"{name}-seed-*.npz"))
        if not files:
            raise SystemExit(f"{self.held_out}: no {name}-seed-*.npz; estimate them from explicit runs first")
        return combine([FreeEnergySurface.load(p) for p in files], "explicit TIP3P")

    def compared(self, solvents: Sequence[str]) -> Comparison:
        """All solvents against the reference."""
        return compare(self.reference(), [self.surface(s) for s in solvents])


def _start(left: Path) -> Literal["new", "resume"]:
    """Whether a step is continued: it is if it has left this file."""
    return "resume" if left.exists() else "new"


def numbers(row: Row, comparison: Comparison) -> dict[str, Any]:
    """The numbers of one row in kcal/mol and nats."""

    def kcal(value: Any) -> dict[str, float]:
        return {k: getattr(value, k) / KJ_PER_KCAL for k in ("value", "low", "high")}

    return {
        "fes_rmse_kcal_mol": kcal(row.rmse),
        "fes_rmse_corrected_kcal_mol": kcal(row.rmse_corrected),
        "noise_kcal_mol": row.noise / KJ_PER_KCAL,
        "reference_noise_kcal_mol": comparison.noise / KJ_PER_KCAL,
        "js_nats": {k: getattr(row.js, k) for k in ("value", "low", "high")},
        "js_noise_nats": row.js_noise,
        "effective_frames": row.surface.n_effective,
        "basins_kcal_mol": {b.name: kcal(b.free_energy_difference) for b in row.basins},
        "populations": {b.name: b.population.value for b in row.basins},
    }
