"""TorchScript: the interchange format of a force field, and energies computed by torch.

``model.pt`` is one program for one molecule: ``forward(positions [N, 3] nm) -> energy`` (kJ/mol, scalar), and
``[B, N, 3] -> [B]``. It takes positions of any floating type. The first atom is moved to the origin before the
conversion to the network's own type, so that a molecule far from the origin loses no digits (the network is invariant
under translation, so neither energy nor forces change), and the energy comes back in the type of the positions.
Atoms beyond the first N of a larger system are ignored.

TorchScript is no longer developed (torch >= 2.9 says so in a DeprecationWarning) but is the only format that
openmm-torch's ``TorchForce`` reads. Nothing else here depends on it. A program from a file is never loaded: what is
loaded here was made by this process or its parent.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlsim.models.contract import BoundEnergy


class ExportedEnergy(nn.Module):
    """A bound energy with doors for any floating type and for systems with further atoms.

    Parameters
    ----------
    energy : BoundEnergy
    like : Tensor
        Any tensor of the network's own type.
    """

    if TYPE_CHECKING:  # an annotation at run time would stop TorchScript
        like: Tensor

    def __init__(self, energy: BoundEnergy, like: Tensor) -> None:
        super().__init__()
        self.energy = energy
        self.atoms = energy.types.numel()
        self.register_buffer("like", like.detach().clone().reshape(-1)[:1])

    def forward(self, positions: Tensor) -> Tensor:
        """Energy (kJ/mol): a scalar for positions [N, 3], [B] for [B, N, 3] (nm)."""
        solute = positions.narrow(-2, 0, self.atoms)
        origin = solute.narrow(-2, 0, 1).detach()
        energy: Tensor = self.energy((solute - origin).to(self.like.dtype))
        return energy.to(positions.dtype)


class TorchEnergy:
    """Energies and forces from torch: the eager module or its TorchScript, one thread of control.

    Parameters
    ----------
    module : nn.Module or ScriptModule
        As :class:`ExportedEnergy`.
    n_atoms : int
    dtype : torch.dtype
        Type of the positions that the module is given.
    chunk : int
        Frames per call.
    """

    def __init__(self, module: Any, n_atoms: int, dtype: torch.dtype = torch.float64, chunk: int = 256) -> None:
        self.module, self.n_atoms, self.dtype, self.chunk = module, n_atoms, dtype, chunk

    def __reduce__(self) -> tuple[Any, ...]:
        module = self.module
        if isinstance(module, torch.jit.ScriptModule):
            return _restored, (to_bytes(module), self.n_atoms, self.dtype, self.chunk)
        return TorchEnergy, (module, self.n_atoms, self.dtype, self.chunk)

    def energy_forces(self, positions: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
        """Energy (kJ/mol) and forces [N, 3] (kJ/mol/nm) at ``positions`` [N, 3] (nm)."""
        x = torch.tensor(positions, dtype=self.dtype, requires_grad=True)
        energy = self.module(x)
        (gradient,) = torch.autograd.grad(energy, x)
        return float(energy.detach()), -gradient.to(torch.float64).numpy()

    def evaluate(self, positions: NDArray[Any], threads: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Energies [R] and forces [R, N, 3] at ``positions`` [R, N, 3] (nm); torch's own thread setting decides."""
        energies, forces = np.empty(len(positions)), np.empty(np.shape(positions))
        for start in range(0, len(positions), self.chunk):
            part = slice(start, start + self.chunk)
            x = torch.tensor(positions[part], dtype=self.dtype, requires_grad=True)
            energy = self.module(x)
            (gradient,) = torch.autograd.grad(energy.sum(), x)
            energies[part] = energy.detach().to(torch.float64).numpy()
            forces[part] = -gradient.to(torch.float64).numpy()
        return energies, forces


def _restored(content: bytes, n_atoms: int, dtype: torch.dtype, chunk: int) -> TorchEnergy:
    with _quiet():
        return TorchEnergy(torch.jit.load(io.BytesIO(content)), n_atoms, dtype, chunk)


class CopiesEnergy(nn.Module):
    """Energy of several copies of a molecule together: positions [copies * N, 3] (nm) -> kJ/mol."""

    def __init__(self, energy: ExportedEnergy, copies: int) -> None:
        super().__init__()
        self.energy, self.copies, self.atoms = energy, copies, energy.atoms

    def forward(self, positions: Tensor) -> Tensor:
        """Sum of the energies of all copies."""
        total: Tensor = self.energy(positions.reshape(self.copies, self.atoms, 3)).sum()
        return total


def script(module: ExportedEnergy, copies: int = 1) -> torch.jit.ScriptModule:
    """Compile to TorchScript: one molecule, or the sum over ``copies`` of it."""
    whole = module if copies == 1 else CopiesEnergy(module, copies)
    with _quiet():
        scripted: torch.jit.ScriptModule = torch.jit.script(whole.eval())
        return scripted


def to_bytes(scripted: torch.jit.ScriptModule) -> bytes:
    """Content of a TorchScript file."""
    memory = io.BytesIO()  # where a disk is full torch aborts the process
    with _quiet():
        torch.jit.save(scripted, memory)
    return memory.getvalue()


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit.*", category=FutureWarning)
        yield
