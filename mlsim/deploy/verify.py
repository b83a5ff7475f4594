"""Verification: everything that must be true of a force field before it is used, measured on the files themselves.

=====================  ===========================================================================================
script                 TorchScript computes what the eager module computes
model.pt               holds the program of these weights and settings, part by part (it is never run or loaded); that
                       program computes what the eager module computes, in the type of the card, in batches and alone
compiled               the tabulated kernel computes what the network computes (energies and forces)
static                 the program for GPUs computes what the kernel computes (here on the CPU)
bridges                both OpenMM bridges give one energy, the network's
gradient               forces are minus the gradient, against differences of the energy in float64
rigid motion           rotation, reflection and translation change no energy and turn the forces along
                       (of a model in the plane, ``space: 2``: within the plane)
equal atoms            exchanging atoms of one type and charge changes nothing
cutoff                 energy and force have no jump where a pair crosses the cutoff
committee              forces of the members that travel with it: the kernel computes what their networks compute
=====================  ===========================================================================================

Every check has a number and a bound, and passes when the number is not larger. Energies are compared relative to the
largest |E| of the conformations, forces to their root mean square. (An energy has an arbitrary constant; where
that makes |E| small, the scale is the work of the root-mean-square force over 0.1 nm.) Conformations are the
artifact's own molecule and thermal-sized random displacements of it from a fixed seed, so that results can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
import openmm
import torch
from numpy.typing import NDArray

from mlsim import seeds
from mlsim.chem.molecule import Molecule
from mlsim.deploy.artifact import ForceFieldArtifact
from mlsim.deploy.atoms_of_model import STATIC_KINDS, labels, torch_energy
from mlsim.deploy.bind import Backend, BoundForceField, ForceField, Precision, exported_energy
from mlsim.deploy.bridges.openmm_force import Bridge, make_force, torchforce_problem
from mlsim.deploy.bridges.program_file import differing_parts
from mlsim.deploy.bridges.torchscript import TorchEnergy, script, to_bytes
from mlsim.deploy.card import CheckResult, Verification
from mlsim.errors import ArtifactError
from mlsim.models.contract import create
from mlsim.models.ebm.prior import Spring, equal_points
from mlsim.records import versions

Floats = NDArray[np.float64]
#: Conformations per check, and the size of their random displacements (nm).
CONFORMATIONS, DISPLACEMENT_NM = 8, 0.01
#: Bounds, relative.
EXACT, ROUNDING, TABLE_FORCES, GRADIENT, BRIDGES = 1e-10, 1e-5, 2e-5, 1e-6, 1e-6


@dataclass(frozen=True)
class VerifyReport:
    """What was found.

    Attributes
    ----------
    artifact : ForceFieldArtifact
    checks : tuple of CheckResult
    """

    artifact: ForceFieldArtifact
    checks: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def record(self) -> Verification:
        """For the card."""
        return Verification(
            passed=self.passed,
            files_digest=self.artifact.digest,
            date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            versions=versions(),
            checks=self.checks,
        )


@dataclass(frozen=True, eq=False)
class _Subject:
    """The force field, its molecule, conformations, and the network's own numbers in float64."""

    field: ForceField
    molecule: Molecule
    positions: Floats  # [F, N, 3]
    exact: BoundForceField
    energies: Floats  # [F]
    forces: Floats  # [F, N, 3]

    def bind(self, backend: Backend, precision: Precision) -> BoundForceField:
        return self.field.bind(self.molecule, backend, precision)

    @property
    def force_scale(self) -> float:
        return float(np.sqrt(np.mean(self.forces**2))) or 1.0

    @property
    def energy_scale(self) -> float:
        return max(float(np.abs(self.energies).max()), 0.1 * self.force_scale)

    def energy_error(self, energies: Floats) -> float:
        return float(np.abs(energies - self.energies).max()) / self.energy_scale

    def force_error(self, forces: Floats) -> float:
        """Root-mean-square error, relative."""
        return float(np.sqrt(np.mean((forces - self.forces) ** 2))) / self.force_scale


def verify(artifact: ForceFieldArtifact, molecule: Molecule | None = None) -> VerifyReport:
    """Check a force field on a molecule (its own, if none is given); nothing is written.

    Raises
    ------
    ArtifactError
        If force field and molecule do not fit, or a file cannot be read.
    """
    solute = (artifact.molecule() if molecule is None else molecule).solute_molecule()
    field = ForceField(artifact)
    generator = seeds.numpy_stream(1, f"verify {artifact.name}")
    x = solute.positions + DISPLACEMENT_NM * generator.normal(size=(CONFORMATIONS, solute.n_atoms, 3))
    x[0] = solute.positions
    exact = field.bind(solute, "eager", "float64")
    subject = _Subject(field, solute, x, exact, *exact.evaluate(x))
    own = solute.digest == artifact.card.exported_for.molecule_digest
    checks = [
        *_script(subject, own),
        *_compiled(subject),
        *_bridges(subject),
        *_gradient(subject),
        *_rigid_motion(subject),
        *_equal_atoms(subject),
        *_cutoff(subject),
        *_committee(subject),
    ]
    return VerifyReport(artifact, tuple(checks))


def with_own_program(artifact: ForceFieldArtifact) -> tuple[ForceFieldArtifact, list[str]]:
    """A force field whose ``model.pt`` is the program of its weights and settings; the one on disk is replaced if not.

    Returns
    -------
    ForceFieldArtifact
    list of str
        The parts that differed; empty if nothing was replaced.

    Raises
    ------
    ArtifactError
        If the program cannot be made from what the artifact holds.
    StorageError
        If the file system refuses.
    """
    program = to_bytes(script(exported_energy(artifact, artifact.molecule(), artifact.card.dtype)))
    other = differing_parts(artifact.program(), program)
    return (artifact.with_program(program) if other else artifact), other


def verified(artifact: ForceFieldArtifact) -> ForceFieldArtifact:
    """The artifact with a passed verification in its card; verified now if it was not.

    Raises
    ------
    ArtifactError
        If a check fails; the card then says which.
    """
    known = artifact.card.verified
    if known is not None and known.passed and known.files_digest == artifact.digest:
        return artifact
    report = verify(artifact)
    artifact = artifact.with_verification(report.record())
    if not report.passed:
        raise ArtifactError(f"{artifact.name}: failed its verification; see: mlsim verify {artifact.directory}")
    return artifact


def _check(name: str, value: float, bound: float, note: str = "", unit: str = "relative") -> CheckResult:
    value = float(value)
    finite = value if np.isfinite(value) else float(np.finfo(float).max)  # YAML of a card holds no infinities
    return CheckResult(name=name, value=finite, bound=bound, passed=value <= bound, unit=unit, note=note)


def _has_kernel(subject: _Subject) -> bool:
    return subject.field.artifact.table() is not None


def _script(subject: _Subject, own: bool) -> Iterator[CheckResult]:
    energies, forces = subject.bind("torchscript", "float64").evaluate(subject.positions)
    yield _check("script: energy, float64", subject.energy_error(energies), EXACT)
    yield _check("script: forces, float64", subject.force_error(forces), EXACT)
    if not own:
        return
    n = subject.molecule.n_atoms
    artifact = subject.field.artifact
    program = script(exported_energy(artifact, subject.molecule, artifact.card.dtype))
    other = differing_parts(artifact.program(), to_bytes(program))
    note = f"not the program of these weights: {', '.join(other[:3])}" if other else "read, not run"
    yield _check("model.pt: parts that differ", len(other), 0.0, note, "parts")
    saved = TorchEnergy(program, n)
    energies, forces = saved.evaluate(subject.positions)
    yield _check("model.pt: energy, batched", subject.energy_error(energies), ROUNDING)
    yield _check("model.pt: forces, batched", subject.force_error(forces), ROUNDING)
    single = np.array([saved.energy_forces(x)[0] for x in subject.positions])
    yield _check("model.pt: energy, one by one", np.abs(single - energies).max() / subject.energy_scale, ROUNDING)


def _compiled(subject: _Subject) -> Iterator[CheckResult]:
    if not _has_kernel(subject):
        return
    precisions: tuple[Precision, ...] = ("float64", "float32")
    for precision in precisions:
        energies, forces = subject.bind("compiled", precision).evaluate(subject.positions)
        yield _check(f"compiled: energy, {precision}", subject.energy_error(energies), ROUNDING)
        yield _check(f"compiled: forces, {precision}", subject.force_error(forces), TABLE_FORCES)
        if subject.field.artifact.kind not in STATIC_KINDS:
            continue
        static = subject.bind("static", precision).evaluate(subject.positions)
        bound = EXACT if precision == "float64" else ROUNDING
        yield _check(f"static = compiled: energy, {precision}", _gap(static[0], energies), bound)
        yield _check(f"static = compiled: forces, {precision}", _gap(static[1], forces), bound)


def _gap(found: Floats, expected: Floats) -> float:
    """Largest difference, relative to the root mean square of what is expected."""
    return float(np.abs(found - expected).max() / (np.sqrt(np.mean(expected**2)) or 1.0))


def _bridges(subject: _Subject) -> Iterator[CheckResult]:
    """In float64, where rounding cannot hide a difference, and in the type that simulations use."""
    own: Precision = subject.field.artifact.card.dtype
    problem = torchforce_problem()
    steps: list[tuple[Precision, float]] = [("float64", BRIDGES)]
    if own != "float64":
        steps.append((own, ROUNDING))
    for precision, bound in steps:
        python = _openmm_energies(subject, "python", precision)
        yield _check(f"bridges: PythonForce = network, {precision}", subject.energy_error(python), bound)
        name = f"bridges: TorchForce = PythonForce, {precision}"
        if problem is None:
            torch = _openmm_energies(subject, "torch", precision)
            yield _check(name, np.abs(torch - python).max() / subject.energy_scale, bound)
        else:
            yield _check(name, 0.0, bound, note=f"not run: {problem}")


def _openmm_energies(subject: _Subject, bridge: Bridge, precision: Precision) -> Floats:
    system = openmm.System()
    for mass in subject.molecule.masses:
        system.addParticle(float(mass))
    system.addForce(make_force(subject.field, subject.molecule, bridge, precision=precision))
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    energies = []
    for x in subject.positions:
        context.setPositions(x)
        energies.append(context.getState(getEnergy=True).getPotentialEnergy()._value)
    return np.array(energies)


def _gradient(subject: _Subject) -> Iterator[CheckResult]:
    """Slopes along random directions; five points where the energy is smooth, a short step where it is piecewise."""
    generator = seeds.numpy_stream(1, "verify gradient")
    directions = generator.normal(size=subject.positions.shape)
    directions /= np.linalg.norm(directions, axis=(1, 2), keepdims=True)

    def slopes(bound: BoundForceField, weights: dict[int, float], step: float) -> Floats:
        values = [w * bound.evaluate(subject.positions + k * step * directions)[0] for k, w in weights.items()]
        return np.array(np.sum(values, axis=0) / step)

    five = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}
    expected = -np.sum(subject.forces * directions, axis=(1, 2))
    error = np.abs(slopes(subject.exact, five, 2e-4) - expected).max() / subject.force_scale
    yield _check("gradient: network, float64", error, GRADIENT)
    if _has_kernel(subject):
        kernel = subject.bind("compiled", "float64")
        expected = -np.sum(kernel.evaluate(subject.positions)[1] * directions, axis=(1, 2))
        error = np.abs(slopes(kernel, {-1: -0.5, 1: 0.5}, 1e-6) - expected).max() / subject.force_scale
        yield _check("gradient: compiled, float64", error, GRADIENT)


def _rigid_motion(subject: _Subject) -> Iterator[CheckResult]:
    generator = seeds.numpy_stream(1, "verify rigid motion")
    space = int(subject.field.artifact.config.get("space", 3))
    turn, mirror = np.eye(3), np.diag([-1.0, 1.0, 1.0])
    turn[:space, :space], _ = np.linalg.qr(generator.normal(size=(space, space)))
    if np.linalg.det(turn) < 0.0:
        turn = turn @ mirror
    for name, motion in (("rotation", turn), ("reflection", turn @ mirror)):
        energies, forces = subject.exact.evaluate(subject.positions @ motion + generator.normal(size=3))
        yield _check(f"rigid motion: energy, {name}", subject.energy_error(energies), EXACT)
        yield _check(f"rigid motion: forces, {name}", subject.force_error(forces @ motion.T), EXACT)
    total = np.abs(subject.forces.sum(axis=1)).max() / subject.force_scale
    yield _check("rigid motion: net force", total, EXACT)
    torques = np.cross(subject.positions, subject.forces).sum(axis=1)[:, 0 if space == 3 else 2 :]
    yield _check("rigid motion: net torque", np.abs(torques).max() / subject.force_scale, EXACT, unit="nm")


def equal_atoms(
    molecule: Molecule, springs: Sequence[Spring] = (), names: Sequence[str] | None = None
) -> list[list[int]]:
    """Groups of atoms with the same name and charge, and held by the same springs of a model that has any.

    ``names`` are what the model calls the atoms; by default their force-field types.
    """
    types = molecule.atom_types if names is None else names
    kinds = list(zip(types, np.round(molecule.charges, 6).tolist(), strict=True))
    groups: dict[int, list[int]] = {}
    for atom, label in enumerate(equal_points(kinds, springs)):
        groups.setdefault(label, []).append(atom)
    return [group for group in groups.values() if len(group) > 1]


def _equal_atoms(subject: _Subject) -> Iterator[CheckResult]:
    order = np.arange(subject.molecule.n_atoms)
    springs = [Spring.parse(spring, "config.yaml") for spring in subject.field.artifact.config.get("springs", ())]
    names = labels(subject.field.artifact.kind, subject.molecule)
    for group in equal_atoms(subject.molecule, springs, names):
        order[group] = np.roll(group, 1)
    energies, forces = subject.exact.evaluator.evaluate(subject.positions[:, order], 1)  # bonds are not exchanged
    moved = int((order != np.arange(len(order))).sum())
    note = f"{moved} of {len(order)} atoms exchanged"
    yield _check("equal atoms: energy", subject.energy_error(energies), EXACT, note)
    yield _check("equal atoms: forces", subject.force_error(forces[:, np.argsort(order)]), EXACT, note)


def _cutoff(subject: _Subject) -> Iterator[CheckResult]:
    """Two atoms alone within reach of each other, a hair inside and outside the cutoff.

    Not every energy ends at the cutoff (a trap does not, and bounds of distances pull at atoms this far apart), so what
    changes over as many hairs on either side is taken off, and so is the rounding of energies and forces themselves.
    """
    cutoff, n = subject.field.artifact.card.cutoff_nm, subject.molecule.n_atoms
    if cutoff is None or n < 2:
        return
    apart = np.zeros((n, 3))
    apart[:, 0] = 10.0 * cutoff * np.arange(n)
    hair = 1e-7 * cutoff
    across = np.array([0.5, -1.5, 1.5, -0.5])  # weights of values at -3, -1, 1, 3 hairs: no slope, no curvature
    backends: list[Backend] = ["eager", "compiled"] if _has_kernel(subject) else ["eager"]
    for kind in backends:
        x = np.repeat(apart[None], 4, axis=0)
        x[:, 1] = [[cutoff + k * hair, 0.0, 0.0] for k in (-3, -1, 1, 3)]
        energies, forces = subject.bind(kind, "float64").evaluator.evaluate(x, 1)  # no conformation: pulled apart
        rounding = 8.0 * np.finfo(float).eps
        jump = max(0.0, abs(across @ energies) - rounding * np.abs(energies).max())
        yield _check(f"cutoff: energy jump, {kind}", jump / subject.energy_scale, EXACT)
        push = max(0.0, np.abs(np.tensordot(across, forces, axes=1)).max() - rounding * np.abs(forces).max())
        yield _check(f"cutoff: force jump, {kind}", push / subject.force_scale, GRADIENT)


def _committee(subject: _Subject) -> Iterator[CheckResult]:
    """Forces of the members, of which only weights and tables were written."""
    members = subject.field.artifact.members()
    if members is None:
        return
    worst, found = 0.0, members.bind(subject.molecule).forces(subject.positions)
    for member, forces in zip(members.members, found, strict=True):
        model = create(members.kind, dict(member.config), 0)
        model.load_state_dict({name: torch.from_numpy(value) for name, value in member.weights.items()})
        x = torch.tensor(subject.positions, requires_grad=True)
        (slope,) = torch.autograd.grad(torch_energy(model.double(), subject.molecule)(x).sum(), x)
        expected = -slope.numpy()
        worst = max(worst, float(np.sqrt(np.mean((forces - expected) ** 2) / np.mean(expected**2))))
    yield _check("committee: forces, compiled float32", worst, TABLE_FORCES, f"{len(members.members)} members")
