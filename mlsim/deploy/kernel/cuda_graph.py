"""A static program on a GPU, recorded once as a CUDA graph and replayed at every step.

For a peptide the arithmetic of a step fills a GPU for microseconds, and starting its hundred kernels from Python takes
a millisecond; a graph starts them all at once. ``torch.compile(mode="reduce-overhead")`` makes such graphs by itself,
but keeps them per thread in a way that fails outside the main thread, and OpenMM calls a ``PythonForce`` from a worker
thread of its own. So the graph is recorded here by hand, at the first call of each thread, by that very thread, for
each number of copies that comes.

Positions cross from host to device and back once per call, through memory that stays where it is. On a CPU the program
runs as it is, which is how its numbers are tested where there is no GPU; the graph itself has not been timed.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mlsim.deploy.kernel.static import StaticProgram
from mlsim.errors import DependencyError

#: Calls before the recording, so that libraries have made their plans.
WARM_UP = 3


class GraphedEnergy:
    """Energies and forces from a static program; an ``Evaluator``.

    Parameters
    ----------
    program : StaticProgram
    device : str
        Where the program's tensors are.
    """

    def __init__(self, program: StaticProgram, device: str) -> None:
        self.program, self.device, self.n_atoms = program, torch.device(device), program.n_atoms
        self._local = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return GraphedEnergy, (self.program, str(self.device))

    def energy_forces(self, positions: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
        """Energy (kJ/mol) and forces [N, 3] (kJ/mol/nm) at ``positions`` [N, 3] (nm); NaN in, NaN out."""
        energies, forces = self.evaluate(np.asarray(positions)[None])
        return float(energies[0]), forces[0]

    def evaluate(self, positions: NDArray[Any], threads: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Energies [R] and forces [R, N, 3] at ``positions`` [R, N, 3] (nm); one graph for each R."""
        x = torch.from_numpy(np.ascontiguousarray(positions, dtype=np.float64))
        if self.device.type != "cuda":
            energies, forces = self.program(x)
            return energies.numpy(), forces.numpy()
        recordings = self._local.__dict__.setdefault("recordings", {})
        if len(x) not in recordings:
            recordings[len(x)] = _Recording(self.program, len(x), self.device)
        found: _Recording = recordings[len(x)]
        return found.replay(x)


class _Recording:
    """The graph of one thread for one number of copies."""

    def __init__(self, program: StaticProgram, copies: int, device: torch.device) -> None:
        shape = (copies, program.n_atoms, 3)
        self.positions = torch.zeros(shape, dtype=torch.float64, device=device)
        self.positions += torch.arange(program.n_atoms, device=device)[:, None]  # apart, so that nothing divides by 0
        self.arriving = torch.zeros(shape, dtype=torch.float64).pin_memory()
        self.leaving = torch.zeros(shape, dtype=torch.float64).pin_memory()
        self.energies_out = torch.zeros(copies, dtype=torch.float64).pin_memory()
        self.stream = torch.cuda.Stream(device)
        self.graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.stream(self.stream):
            for _ in range(WARM_UP):
                program(self.positions)
            self.stream.synchronize()
            # other threads of the process may use the device while this one records
            with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
                self.energies, self.forces = program(self.positions)

    def replay(self, positions: torch.Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """One evaluation; the results are copies."""
        self.arriving.copy_(positions)
        with torch.cuda.stream(self.stream):
            self.positions.copy_(self.arriving, non_blocking=True)
            self.graph.replay()
            self.energies_out.copy_(self.energies, non_blocking=True)
            self.leaving.copy_(self.forces, non_blocking=True)
        self.stream.synchronize()
        return self.energies_out.numpy().copy(), self.leaving.numpy().copy()


def require_cuda() -> None:
    """Refuse where torch has no CUDA device.

    Raises
    ------
    DependencyError
        With what is missing.
    """
    if not torch.cuda.is_available():
        raise DependencyError(
            f"bridge 'cuda': torch {torch.__version__} finds no CUDA device here; use --bridge python"
        )
