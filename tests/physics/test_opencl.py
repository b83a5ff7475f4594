"""OpenMM's GPU kernels, run on the processor by an OpenCL of its own (PoCL): forces are those of Reference.

Debian: ``apt install pocl-opencl-icd ocl-icd-libopencl1``. Not shown here: dynamics over long times, the CUDA platform.
"""

from __future__ import annotations

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray

from mlsim.chem.molecule import Molecule
from mlsim.md import platforms
from mlsim.potentials.contract import PotentialRequest
from mlsim.potentials.named import resolve
from mlsim.potentials.system import build_system

pytestmark = pytest.mark.skipif(
    "OpenCL" not in platforms.available(),
    reason="LOUD SKIP: no OpenCL here, GPU kernels are NOT checked; apt install pocl-opencl-icd ocl-icd-libopencl1",
)
POTENTIALS = ("vacuum", "obc2", "gbn2", "issnet:issnet-ala2")
#: Largest relative root-mean-square difference of forces that a precision explains.
BOUNDS = {"single": 1e-4, "mixed": 1e-4}


def forces(
    system: openmm.System, positions: NDArray[np.float64], platform: str, **properties: str
) -> NDArray[np.float64]:
    """Forces [F, N, 3] (kJ/mol/nm)."""
    chosen = openmm.Platform.getPlatformByName(platform)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), chosen, properties)
    found = []
    for x in positions:
        context.setPositions(x)
        found.append(context.getState(getForces=True).getForces(asNumpy=True)._value)
    return np.array(found)


@pytest.mark.parametrize("potential", POTENTIALS)
def test_forces_on_opencl_are_those_of_reference(ala2: Molecule, potential: str) -> None:
    system = build_system(ala2, resolve(potential, PotentialRequest(ala2, bridge="python")), "none", 1.008)
    x = ala2.positions + 0.005 * np.random.default_rng(1).normal(size=(3, *ala2.positions.shape))
    exact = forces(system, x, "Reference")
    for precision, bound in BOUNDS.items():
        found = forces(system, x, "OpenCL", Precision=precision)
        assert np.sqrt(((found - exact) ** 2).mean() / (exact**2).mean()) < bound, precision
