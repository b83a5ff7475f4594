"""Does an energy-based model do in OpenMM what it does in torch, and does NVT there sample what our samplers sample?

For each shipped energy-based force field (``ebm-dw4``, ``ebm-lj13``):

parity   200 conformations (half from the reference, half with thermal noise): energies and forces of both OpenMM
         bridges, as they run (float32), against the torch module in float64; relative to the largest |E| and to the
         root-mean-square force
NVT      16 copies in one OpenMM System, Langevin middle integrator, 300 K, from reference conformations; mean energy
         in kT after a third of the run, standard error over the copies
verb     the same by ``mlsim run``, eight replicas, each from the minimum that the verb starts from; at a third of this
         length (15 and 3.2 ps) they had not left it: 2.4 and 4.5 standard errors
sampler  16 chains of the package's HMC on exp(-u) in torch float64, from other reference conformations
quality  the HMC samples against the reference of the true density, and the model's energy and score against the true
         ones on conformations that it was not trained on

All conformations are from the tenth of the reference that the training held out. Chains, copies and replicas are
independent of each other, so each mean has a plain standard error; the claim is that the means differ by at most two
standard errors of the difference.

    python -m benchmarks.ebm_openmm --work DIR        rows are kept in DIR, a killed run goes on
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from openmm import Context, Platform, System

from benchmarks.result import Claim, write_result
from mlsim.chem.catalog import forcefield_directory, load_system
from mlsim.chem.cluster import LENGTH_NM
from mlsim.deploy.bind import ForceField, exported_energy, load_forcefield
from mlsim.deploy.openmm_force import Bridge, make_force
from mlsim.deploy.potential import learned
from mlsim.deploy.torchscript import TorchEnergy
from mlsim.md.integrator import langevin_middle
from mlsim.md.replicas import build_replicas, split
from mlsim.md.settings import RunSettings
from mlsim.md.trajectory import Run
from mlsim.models.contract import BoundEnergy
from mlsim.samplers import evaluate, hmc, sample
from mlsim.samplers.targets import by_name, load
from mlsim.samplers.targets.trial import floor, measure
from mlsim.seeds import openmm_seed, torch_stream
from mlsim.shapes import Floats
from mlsim.units import kT
from mlsim.workflow.ebm import reference_split
from mlsim.workflow.run import run

HELD_OUT = 0.1
SEED, COPIES, TEMPERATURE_K, FRICTION_PER_PS = 1, 16, 300.0, 2.0
#: Force field, target, time step (fs), NVT steps, gradients per HMC chain.
PLAN = (("ebm-dw4", "dw4", 10.0, 4500, 1500), ("ebm-lj13", "lj13", 4.0, 2400, 600))
_EQUILIBRATION = 1 / 3


def configurations(field: ForceField, target: str, first: int, last: int) -> Floats:
    """Held-out reference configurations [last - first, N, 3] in nm."""
    stored, symmetry = load(target).positions, by_name(target).symmetry
    seed = field.artifact.card.description.training.seed
    assert seed is not None
    _, held_out = reference_split(len(stored), HELD_OUT, seed)
    chosen = stored[held_out[first:last]]
    points = np.zeros((len(chosen), symmetry.points, 3))
    points[..., : symmetry.space] = chosen.reshape(len(chosen), symmetry.points, symmetry.space)
    return LENGTH_NM * points


def parity(field: ForceField, target: str) -> dict[str, Any]:
    """Largest relative differences between OpenMM and torch."""
    molecule = field.artifact.molecule()
    x = configurations(field, target, 0, 200)
    x[100:] += 0.005 * np.random.default_rng(SEED).normal(size=x[100:].shape)
    exact = TorchEnergy(exported_energy(field.artifact, molecule, "float64"), molecule.n_atoms)
    energies, forces = exact.evaluate(x)
    found: dict[str, Any] = {"kind": "parity", "conformations": len(x)}
    bridges: tuple[Bridge, ...] = ("torch", "python")
    for bridge in bridges:
        system = System()
        for mass in molecule.masses:
            system.addParticle(float(mass))
        system.addForce(make_force(field, molecule, bridge))
        engine = langevin_middle(TEMPERATURE_K, FRICTION_PER_PS, 0.001, 1)
        context = Context(system, engine, Platform.getPlatformByName("Reference"))
        got_energies, got_forces = [], []
        for positions in x:
            context.setPositions(positions)
            state = context.getState(getEnergy=True, getForces=True)
            got_energies.append(state.getPotentialEnergy()._value)
            got_forces.append(np.array(state.getForces(asNumpy=True)._value))
        off = np.abs(np.array(got_energies) - energies).max() / np.abs(energies).max()
        push = np.sqrt(np.mean((np.array(got_forces) - forces) ** 2) / np.mean(forces**2))
        found |= {f"energy_{bridge}": float(off), f"force_{bridge}": float(push)}
    return found


def canonical(field: ForceField, target: str, timestep_fs: float, steps: int) -> dict[str, Any]:
    """NVT of all copies in one Context."""
    molecule = load_system(target)
    system = build_replicas(molecule, learned(field.name, field), "none", 1.5, COPIES)
    engine = langevin_middle(TEMPERATURE_K, FRICTION_PER_PS, timestep_fs / 1000.0, openmm_seed(SEED, "nvt"))
    context = Context(system, engine, Platform.getPlatformByName("Reference"))
    context.setPositions(configurations(field, target, 200, 200 + COPIES).reshape(-1, 3))
    context.setVelocitiesToTemperature(TEMPERATURE_K, openmm_seed(SEED, "velocities"))
    bound = field.bind(molecule)
    kept, kinetic, every = [], [], 20
    began = time.process_time()
    for step in range(0, steps, every):
        engine.step(every)
        if step >= _EQUILIBRATION * steps:
            state = context.getState(getPositions=True, getEnergy=True)
            kept.append(bound.evaluate(split(np.array(state.getPositions(asNumpy=True)._value), COPIES))[0])
            kinetic.append(state.getKineticEnergy()._value)
    spent = time.process_time() - began
    per_copy = np.mean(kept, axis=0) / kT(TEMPERATURE_K)
    freedom = 3 * COPIES * molecule.n_atoms
    return {
        "kind": "nvt",
        "copies": COPIES,
        "timestep_fs": timestep_fs,
        "ps_each": steps * timestep_fs / 1000.0,
        "temperature_K": float(2.0 * np.mean(kinetic) / freedom / kT(1.0)),
        "steps_per_s_and_copy": round(steps * COPIES / spent, 1),
        **_mean(per_copy),
    }


def by_verb(field: ForceField, target: str, timestep_fs: float, steps: int, work: Path) -> dict[str, Any]:
    """NVT by ``mlsim run``."""
    settings = RunSettings(
        system=target,
        solvent=f"learned:{field.name}",
        ns=steps * timestep_fs / 1e6,
        timestep_fs=timestep_fs,
        friction_per_ps=FRICTION_PER_PS,
        replicas=8,
        seed=SEED,
        report_ps=20 * timestep_fs / 1000.0,
        platform="Reference",
    )
    place = work / f"run-{field.name}"
    run(settings, place, "resume" if (place / "run.json").exists() else "new")
    energies = np.array([replica.potential() for replica in Run.open(place).replicas]) / kT(TEMPERATURE_K)
    thirds = [float(part.mean()) for part in np.array_split(energies, 3, axis=1)]
    kept = energies[:, int(_EQUILIBRATION * energies.shape[1]) :].mean(axis=1)
    length = steps * timestep_fs / 1000.0
    return {"kind": "mlsim run", "replicas": 8, "ps_each": length, "mean_energy_kT_by_third": thirds, **_mean(kept)}


def own_sampler(field: ForceField, target: str, gradients: int) -> dict[str, Any]:
    """HMC in torch on the artifact's network, and how good its samples are."""
    chosen, molecule = by_name(target), field.artifact.molecule()
    energy: BoundEnergy = exported_energy(field.artifact, molecule, "float64").energy
    space, points = chosen.symmetry.space, chosen.symmetry.points

    def log_density(flat: torch.Tensor) -> torch.Tensor:
        x = flat.new_zeros((len(flat), points, 3))
        x = torch.cat([flat.reshape(len(flat), points, space), x[..., space:]], dim=-1)
        return -energy(LENGTH_NM * x) / kT(TEMPERATURE_K)

    def flat(first: int, last: int) -> torch.Tensor:
        x = configurations(field, target, first, last)
        return torch.from_numpy(x[..., :space].reshape(len(x), -1) / LENGTH_NM)

    project = chosen.symmetry.project
    size = 0.05 * chosen.length
    starts = flat(240, 240 + COPIES)
    found = sample(
        hmc(log_density, size, project=project), starts, gradients, torch_stream(SEED, "hmc"), record_every=2
    )
    kept = found.trajectory[int(_EQUILIBRATION * len(found.trajectory)) :]
    with torch.no_grad():
        energies = torch.stack([-log_density(x) for x in kept])
    quality = measure(chosen, torch.cat([kept[-1], kept[len(kept) // 2]]))
    fresh = flat(0, 500)
    true_energy, true_score = evaluate(chosen.log_density, fresh)
    own_energy, own_score = evaluate(log_density, fresh)
    return {
        "kind": "sampler",
        "method": "hmc",
        "chains": COPIES,
        "gradients": gradients,
        **_mean(energies.mean(0).numpy()),
        "energy_correlation": float(torch.corrcoef(torch.stack([true_energy, own_energy]))[0, 1]),
        "score_error": float((true_score - own_score).square().sum() / true_score.square().sum()),
        "samples_vs_reference": quality,
        "iid_floor": floor(chosen, 2 * COPIES),
    }


def _mean(values: Floats) -> dict[str, float]:
    return {
        "mean_energy_kT": float(values.mean()),
        "standard_error_kT": float(values.std(ddof=1) / np.sqrt(len(values))),
    }


def main() -> None:
    """All rows, then the claims."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="directory for rows, kept between calls")
    parser.add_argument("--only", default="", help="one force field, and no result")
    parser.add_argument("--part", default="", help="with --only: parity, nvt, sampler or verb")
    given = parser.parse_args()
    work = given.work
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    rows, claims = [], []
    for name, target, timestep_fs, steps, gradients in PLAN:
        if given.only not in name:
            continue
        field = load_forcefield(forcefield_directory(name))
        parts = {
            "parity": partial(parity, field, target),
            "nvt": partial(canonical, field, target, timestep_fs, steps),
            "sampler": partial(own_sampler, field, target, gradients),
            "verb": partial(by_verb, field, target, timestep_fs, steps, work),
        }
        found: dict[str, Any] = {}
        for part, measured in parts.items():
            if given.part not in part:
                continue
            path = work / f"{name}-{field.artifact.digest}-{part}.json"
            if not path.is_file():
                path.write_text(json.dumps(measured()))
                print(name, path.read_text())
            found[part] = json.loads(path.read_text())
            rows.append({"forcefield": name, "digest": field.artifact.digest, **found[part]})
        if given.only:
            continue
        worst = max(found["parity"]["energy_torch"], found["parity"]["energy_python"])
        claims.append(
            Claim("4.7", f"{name}: energies, OpenMM against torch, relative", worst, "<= 1e-5", worst <= 1e-5)
        )
        worst = max(found["parity"]["force_torch"], found["parity"]["force_python"])
        claims.append(Claim("4.7", f"{name}: forces, OpenMM - torch, relative", worst, "<= 1e-4", worst <= 1e-4))
        for part, what in (("nvt", f"{COPIES} copies"), ("verb", "mlsim run")):
            apart = found[part]["mean_energy_kT"] - found["sampler"]["mean_energy_kT"]
            error = np.hypot(found[part]["standard_error_kT"], found["sampler"]["standard_error_kT"])
            sigma = abs(apart) / error
            claims.append(Claim("4.7", f"{name}: NVT <E> ({what}) against HMC, sigma", sigma, "<= 2", sigma <= 2.0))
    if given.only:
        return
    question = (
        "Does an energy-based model do in OpenMM what it does in torch, and does NVT there sample what our own "
        "samplers sample?"
    )
    write_result("ebm_openmm", question, rows, claims)


if __name__ == "__main__":
    main()
