"""Bridges from a learned force field into an OpenMM System, one result.

``python``  OpenMM's own ``PythonForce`` (OpenMM >= 8.6) calls back into Python once per evaluation. Any backend:
            ``compiled`` (default), ``eager``, ``torchscript``.
``torch``   openmm-torch's ``TorchForce`` runs TorchScript in C++, without Python in the loop. It exists as a wheel for
            one version of torch; elsewhere :func:`torchforce_problem` says in one line why it cannot be used.
``cuda``    ``PythonForce`` as well, with the network on the GPU as a CUDA graph
            (:mod:`mlsim.deploy.kernel.cuda_graph`). For many replicas of a molecule; one peptide is done sooner by the
            compiled kernel on a core. Not timed yet. ``PythonTorchForce``, which would pass tensors from device to
            device, is in openmm-torch's sources but in no release (neither openmmtorch 1.5 nor OpenMM 8.6.1 has it), so
            there is no bridge for it.
``auto``    ``python`` with the compiled kernel where the kind has one, because no Python in the loop matters less than
            the program that runs: see the table. Kinds without a kernel take ``torch`` if usable, else ``python``.

Milliseconds per step, molecular mechanics included, Reference platform, one quiet core of an EPYC (Zen 5), 64 features,
2 blocks, 1.2 nm cutoff, float32 (``benchmarks/md_speed.py``):

=================================  ==================  ======================
what runs                          alanine dipeptide   chignolin (166 atoms)
=================================  ==================  ======================
PythonForce, compiled kernel        0.025               0.58
the same at every second step       0.016               0.32
mechanics by OpenMM, not in it      0.029               0.76
PythonForce, static program         0.39                16
TorchForce, TorchScript             0.74                30
PythonForce, TorchScript            1.0                 34
PythonForce, eager                  1.1                 27
(vacuum without learned force)      0.008               0.18
(OBC2 by native GBSAOBCForce)       0.024               0.60
(OBC2 or GBn2, CPU platform)        0.17 - 0.19         2.8 - 3.8
=================================  ==================  ======================

With the compiled kernel, the molecular mechanics of the solute run in the same callback
(:mod:`mlsim.deploy.kernel.mechanics`).

OpenMM accepts from a callback what it should refuse: a NaN energy passes silently, an array of one element becomes the
energy -1.0, and every exception, Ctrl-C included, arrives as an ``OpenMMException`` without type or traceback. So the
callback here checks energy, shape, type and finiteness, and hands its exception to :mod:`mlsim.potentials.callback`,
where the runner takes it back.
"""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np
import openmm
from numpy.typing import NDArray

from mlsim.chem.molecule import Molecule
from mlsim.deploy.atoms_of_model import COMPILED_KINDS
from mlsim.deploy.bind import Backend, BoundForceField, Evaluator, ForceField, Precision, exported_energy
from mlsim.deploy.kernel.mechanics import Mechanics
from mlsim.deploy.kernel.memory import Desk
from mlsim.errors import DependencyError, InputError, UnphysicalError
from mlsim.potentials import callback
from mlsim.potentials.impulses import Impulses

Bridge = Literal["auto", "torch", "python", "cuda"]
BRIDGES: tuple[Bridge, ...] = ("auto", "torch", "python", "cuda")
#: The torch that the openmmtorch wheel was seen to work with: 2.10 aborts the process, others cannot import it.
TORCH_FOR_TORCHFORCE = "2.9."


class Callback:
    """What ``PythonForce`` calls: positions of the solute in, energy and forces out, checked.

    A class of the module, so that Systems that hold it can be copied and serialised.

    Parameters
    ----------
    evaluator : Evaluator
    name : str
        Of the force field, for messages.
    impulses : Impulses, optional
        When the force acts; by default at every step.
    mechanics : Mechanics, optional
        Molecular mechanics of the same atoms, which act at every step (with the compiled kernel only).
    """

    def __init__(
        self,
        evaluator: Evaluator,
        name: str,
        impulses: Impulses | None = None,
        mechanics: Mechanics | None = None,
    ) -> None:
        self.evaluator, self.name, self.impulses, self.mechanics = evaluator, name, impulses, mechanics
        self._desk = getattr(evaluator, "desk", None)
        self._nothing = np.zeros((evaluator.n_atoms, 3))

    def __reduce__(self) -> tuple[Any, ...]:  # a copy of a System acts at every step: nobody tells it when one begins
        return Callback, (self.evaluator, self.name, None, self.mechanics)

    def __call__(self, state: openmm.State) -> tuple[float, NDArray[np.float64]]:
        """Energy (kJ/mol) and forces [N, 3] (kJ/mol/nm) for OpenMM."""
        try:
            strength = 1 if self.impulses is None else self.impulses.strength(state)
            if strength == 0 and self.mechanics is None:
                return 0.0, self._nothing
            if self._desk is not None:
                return self._quickly(state, self._desk(), strength)
            positions = np.empty((self.evaluator.n_atoms, 3))
            callback.read_positions(state, positions)
            energy, forces = self.compute(positions)
            return energy, forces if strength == 1 else strength * forces
        except BaseException as error:  # also KeyboardInterrupt, which OpenMM would swallow
            callback.stash(error)
            raise

    def _quickly(self, state: openmm.State, desk: Desk, strength: int) -> tuple[float, NDArray[np.float64]]:
        """With the compiled kernel: no copies, and its energy alone tells whether anything is not finite."""
        callback.read_positions(state, desk.positions)
        energy, forces = desk.run(strength) if strength else desk.rest()
        if self.mechanics is not None:
            energy += self.mechanics.add(desk.positions, forces)
        if not math.isfinite(energy):
            raise UnphysicalError(self._complaint(desk.positions, energy, forces))
        return energy, forces

    def compute(self, positions: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Energy and forces, or an error that says what is wrong with them.

        Raises
        ------
        UnphysicalError
            NaN or infinity in positions, energy or forces.
        InputError
            Energy or forces of another type or shape.
        """
        energy, forces = self.evaluator.energy_forces(positions)
        if not isinstance(energy, float):
            raise InputError(f"{self.name}: expected the energy as a float, got {type(energy).__name__}")
        if not isinstance(forces, np.ndarray) or forces.shape != positions.shape or forces.dtype != np.float64:
            got = f"{getattr(forces, 'dtype', type(forces).__name__)} {list(np.shape(forces))}"
            raise InputError(f"{self.name}: expected forces as float64 {list(positions.shape)}, got {got}")
        # one product instead of isfinite().all(): 0.5 us, and no finite force is so large that its square overflows
        if not (math.isfinite(energy) and math.isfinite(np.vdot(forces, forces))):
            raise UnphysicalError(self._complaint(positions, energy, forces))
        return energy, forces

    def _complaint(self, positions: NDArray[np.float64], energy: float, forces: NDArray[np.float64]) -> str:
        if not np.isfinite(positions).all():
            atom = int(np.argwhere(~np.isfinite(positions))[0][0])
            return f"{self.name}: position of atom {atom} is not finite; the simulation has blown up"
        return f"{self.name}: energy {energy} kJ/mol, largest force {np.abs(forces).max()} kJ/mol/nm"


def make_force(
    field: ForceField,
    molecule: Molecule,
    bridge: Bridge = "auto",
    backend: Backend = "auto",
    precision: Precision | None = None,
) -> openmm.Force:
    """A force on the solute (the first atoms) of a System of ``molecule``.

    Parameters
    ----------
    bridge : {"auto", "torch", "python", "cuda"}
    backend : {"auto", "compiled", "static", "torchscript", "eager"}
        What computes; the torch bridge is always ``torchscript``, the cuda bridge always ``static``.
    precision : {"float32", "float64"}, optional
        Default: as the card says.

    Raises
    ------
    DependencyError
        If the torch or cuda bridge is asked for and cannot be used; with the reason.
    ArtifactError
        If force field and molecule do not fit.
    """
    if bridge not in BRIDGES:
        raise InputError(f"bridge: expected one of {', '.join(BRIDGES)}, got '{bridge}'")
    if takes_callbacks(field, bridge, backend):
        return python_force(bound_for(field, molecule, bridge, backend, precision), molecule.n_atoms)
    if backend not in ("auto", "torchscript"):
        raise InputError(f"bridge 'torch' runs TorchScript; backend '{backend}' needs bridge 'python'")
    return torch_force(field.bind(molecule, "torchscript", precision))


def takes_callbacks(field: ForceField, bridge: Bridge, backend: Backend = "auto") -> bool:
    """Whether the bridge that is used calls back into Python (``auto`` decides by what there is)."""
    if bridge == "auto":
        plain = backend in ("auto", "torchscript") and field.artifact.kind not in COMPILED_KINDS
        return not (plain and torchforce_problem() is None and torchforce_opencl_problem() is None)
    return bridge in ("python", "cuda")


def bound_for(
    field: ForceField,
    molecule: Molecule,
    bridge: Bridge,
    backend: Backend = "auto",
    precision: Precision | None = None,
) -> BoundForceField:
    """The force field bound as a callback bridge wants it.

    Raises
    ------
    DependencyError
        If the cuda bridge is asked for where there is no CUDA.
    """
    if bridge != "cuda":
        return field.bind(molecule, backend, precision)
    from mlsim.deploy.kernel.cuda_graph import require_cuda

    require_cuda()
    if backend not in ("auto", "static"):
        raise InputError(f"bridge 'cuda' runs the static program; backend '{backend}' needs bridge 'python'")
    return field.bind(molecule, "static", precision, "cuda")


def python_force(
    bound: BoundForceField, n_particles: int, impulses: Impulses | None = None, mechanics: Mechanics | None = None
) -> openmm.PythonForce:
    """``PythonForce`` on the first N of ``n_particles`` particles, with their molecular mechanics if given."""
    force = openmm.PythonForce(Callback(bound.evaluator, bound.field.name, impulses, mechanics))
    if n_particles > bound.n_atoms:
        force.setParticles(list(range(bound.n_atoms)))
    force.setName(f"learned:{bound.field.name}")
    return force


def torch_force(bound: BoundForceField, copies: int = 1) -> openmm.Force:
    """``TorchForce`` on the first N particles, or on ``copies`` molecules of N particles each.

    On the CUDA platform OpenMM is asked to make a CUDA graph of it.

    Raises
    ------
    DependencyError
        If openmmtorch cannot be used here.
    """
    problem = torchforce_problem()
    if problem is not None:
        raise DependencyError(f"bridge 'torch': {problem}; use --bridge python")
    from openmmtorch import TorchForce

    from mlsim.deploy.bridges.torchscript import script

    energy = exported_energy(bound.field.artifact, bound.molecule, bound.precision)
    force: openmm.Force = TorchForce(script(energy, copies), {"useCUDAGraphs": "true"})
    force.setName(f"learned:{bound.field.name} (TorchForce)")  # by which the choice of a platform knows it
    return force


def torchforce_problem() -> str | None:
    """Why ``TorchForce`` cannot be used here, in one line; None if it can (its plugin is then loaded)."""
    try:
        torch_version, plugin_version = version("torch"), version("openmmtorch")
    except PackageNotFoundError as error:
        return f"{error.name} is not installed"
    if not torch_version.startswith(TORCH_FOR_TORCHFORCE):
        return (
            f"openmmtorch {plugin_version} works with torch {TORCH_FOR_TORCHFORCE}* only, found torch {torch_version}"
        )
    try:
        _import_openmmtorch()
    except (ImportError, openmm.OpenMMException) as error:
        return f"openmmtorch {plugin_version} cannot be loaded: {' '.join(str(error).split())}"
    return None


#: Run in a process of its own: TorchForce on OpenCL, whose plugin may have been built for another OpenMM.
_OPENCL_TRIAL = """
import torch
from mlsim.deploy.bridges.openmm_force import torchforce_problem
assert torchforce_problem() is None
import openmm
from openmmtorch import TorchForce
class Nothing(torch.nn.Module):
    def forward(self, positions):
        return 0.0 * positions.sum()
system = openmm.System()
system.addParticle(1.0)
system.addForce(TorchForce(torch.jit.trace(Nothing(), torch.zeros(1, 3))))
context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("OpenCL"))
context.setPositions([[0.0, 0.0, 0.0]])
context.getState(getEnergy=True)
"""


@lru_cache(maxsize=1)
def torchforce_opencl_problem() -> str | None:
    """Why ``TorchForce`` cannot be used beside the OpenCL of this machine, in one line; None if it can, or has none.

    A plugin that was built for another OpenMM ends the process (``symbol lookup error``), so it is tried in another
    one, once.
    """
    names = [openmm.Platform.getPlatform(k).getName() for k in range(openmm.Platform.getNumPlatforms())]
    if "OpenCL" not in names:
        return None
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", _OPENCL_TRIAL], capture_output=True, text=True)
    if done.returncode == 0:
        return None
    words = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
    return f"TorchForce of openmmtorch {version('openmmtorch')} does not run on OpenCL: {words[:160]}"


def _import_openmmtorch() -> None:
    """Import torch first, then openmmtorch, then load its kernels, which OpenMM could not when it was imported."""
    import torch  # noqa: F401 - openmmtorch needs its libraries in the process

    root, quiet = logging.getLogger(), _Silence()
    root.addFilter(quiet)  # openmmtorch imports OpenMM by its old name, which warns
    try:
        import openmmtorch  # noqa: F401
    finally:
        root.removeFilter(quiet)
    if _has_kernels():
        return
    plugins = os.path.join(openmm.version.openmm_library_path, "plugins")
    failures = []
    for name in sorted(os.listdir(plugins)):
        if "OpenMMTorch" in name:
            try:
                openmm.Platform.loadPluginLibrary(os.path.join(plugins, name))
            except openmm.OpenMMException as error:  # e.g. the OpenCL one on a machine without OpenCL
                failures.append(str(error))
    if not _has_kernels():
        raise ImportError(failures[0] if failures else f"no Torch plugin in {plugins}")


def _has_kernels() -> bool:
    return bool(openmm.Platform.getPlatformByName("Reference").supportsKernels(["CalcTorchForce"]))


class _Silence(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "simtk.openmm" not in record.getMessage()
