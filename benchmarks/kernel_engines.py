"""Which engine should compute the network on a CPU: how long does an evaluation take, and how long until the first one?

Energy and forces of alanine dipeptide with the shipped network, float32, one thread: eager torch, TorchScript, the
graph of energy and gradient captured by ``make_fx`` and compiled by ``torch.compile`` and by AOTInductor, the static
program of :mod:`mlsim.deploy.kernel.static` in plain torch and compiled, and the compiled kernel with explicit vectors;
and the matrix product that is half of the kernel as plain Numba loops, by BLAS and by the kernel's tiles.
``seconds_to_first`` is everything from the loaded force field to the first result (torch's compilers and Numba keep
what they made on disk, so a second process is quicker); ``needs`` is what a user's machine must have.

    python -m benchmarks.kernel_engines
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

from benchmarks import engines
from benchmarks.result import Claim, write_result
from benchmarks.timing import Spread, interleaved
from mlsim.chem.catalog import forcefield_directory, load_system
from mlsim.deploy.bind import BoundForceField, exported_energy, load_forcefield
from mlsim.deploy.kernel.static import StaticProgram

FORCEFIELD, SYSTEM = "issnet-ala2", "alanine-dipeptide"
OURS = "compiled kernel (Numba, explicit vectors)"
Work = Callable[[int], None]


def evaluator(bound: BoundForceField, x: np.ndarray) -> Work:
    """Units of one evaluation by a backend of mlsim."""

    def work(units: int) -> None:
        for _ in range(units):
            bound.evaluator.energy_forces(x)

    return work


def called(function: Callable[[torch.Tensor], Any], x: torch.Tensor) -> Work:
    """Units of one call."""

    def work(units: int) -> None:
        for _ in range(units):
            function(x)

    return work


def captured(bound: BoundForceField, x: torch.Tensor) -> torch.fx.GraphModule:
    """Energy and forces of the network as one graph."""
    from torch.fx.experimental.proxy_tensor import make_fx

    module = exported_energy(bound.field.artifact, bound.molecule, "float32")

    def both(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        positions = positions.detach().requires_grad_()
        energy = module(positions)
        (gradient,) = torch.autograd.grad(energy, positions)
        return energy.detach(), -gradient

    graph: torch.fx.GraphModule = make_fx(both)(x)
    return graph


def ahead_of_time(graph: torch.fx.GraphModule, x: torch.Tensor) -> Callable[[torch.Tensor], Any]:
    """The same as a library made by AOTInductor."""
    from torch._inductor import aoti_compile_and_package, aoti_load_package

    place = Path(tempfile.mkdtemp()) / "network.pt2"
    package = aoti_compile_and_package(torch.export.export(graph, (x,)), package_path=str(place))
    loaded: Callable[[torch.Tensor], Any] = aoti_load_package(package)
    return loaded


def plain_product(rows: int, width: int) -> Work:
    """Units of one product [rows, width] x [width, width] as plain Numba loops."""
    generator = np.random.default_rng(1)
    a, b = (generator.normal(size=s).astype(np.float32) for s in ((rows, width), (width, width)))
    c = np.zeros((rows, width), dtype=np.float32)

    def work(units: int) -> None:
        _products(a, b, c, units)

    return work


@numba.njit(fastmath=True)
def _products(a: Any, b: Any, c: Any, units: int) -> None:
    for _ in range(units):
        c[:] = 0.0
        for i in range(a.shape[0]):
            for k in range(a.shape[1]):
                for j in range(b.shape[1]):
                    c[i, j] += a[i, k] * b[k, j]


def vector_product(rows: int, width: int) -> Work:
    """Units of the same product by the kernel's tiles."""
    from mlsim.deploy.kernel.product import multiply

    generator = np.random.default_rng(1)
    a, b = (generator.normal(size=s).astype(np.float32).reshape(-1) for s in ((rows, width), (width, width)))
    c, start = np.zeros_like(a), np.zeros_like(a)

    @numba.njit
    def repeat(units: int, a: Any, b: Any, c: Any, start: Any, rows: int, width: int) -> None:
        for _ in range(units):
            multiply(a, 0, width, b, 0, c, 0, width, start, 0, rows, width, width)

    def work(units: int) -> None:
        repeat(units, a, b, c, start, rows, width)

    return work


def blas_product(rows: int, width: int) -> Work:
    """Units of the same product by BLAS (numpy)."""
    generator = np.random.default_rng(1)
    a, b = (generator.normal(size=s).astype(np.float32) for s in ((rows, width), (width, width)))
    c = np.zeros((rows, width), dtype=np.float32)

    def work(units: int) -> None:
        for _ in range(units):
            np.matmul(a, b, out=c)

    return work


def main() -> None:
    """Make every engine, time them, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.2, help="processor time per engine and round")
    given = parser.parse_args()
    engines.one_thread()
    molecule = load_system(SYSTEM)
    field = load_forcefield(forcefield_directory(FORCEFIELD))
    x = molecule.positions
    tensor, batch = torch.tensor(x, dtype=torch.float32), torch.from_numpy(x)[None]
    eager = field.bind(molecule, "eager", "float32")
    static = StaticProgram(field.bind(molecule, "compiled", "float32").evaluator.network)  # type: ignore[attr-defined]
    makers: dict[str, tuple[Callable[[], Work], str]] = {
        "eager torch": (lambda: evaluator(eager, x), ""),
        "TorchScript": (lambda: evaluator(field.bind(molecule, "torchscript", "float32"), x), ""),
        "make_fx + torch.compile": (lambda: called(torch.compile(captured(eager, tensor)), tensor), "C++ compiler"),
        "make_fx + AOTInductor": (
            lambda: called(ahead_of_time(captured(eager, tensor), tensor), tensor),
            "C++ compiler, or a library per molecule and processor",
        ),
        "static program, torch": (lambda: called(static, batch), ""),
        "static program, torch.compile": (lambda: called(torch.compile(static), batch), "C++ compiler"),
        OURS: (lambda: evaluator(field.bind(molecule, "compiled", "float32"), x), ""),
    }
    made: dict[str, Work] = {}
    first: dict[str, float] = {}
    for name, (maker, _) in makers.items():
        began = time.perf_counter()
        made[name] = maker()
        made[name](1)
        first[name] = time.perf_counter() - began
    rates, _ = interleaved(made, given.rounds, given.seconds)
    rows: list[dict[str, Any]] = []
    for name, (_, needs) in makers.items():
        spread = Spread.of([1e6 / r for r in rates[name]])
        rows.append(
            {"engine": name, "us": spread.record(), "seconds_to_first": round(first[name], 2), "needs": needs or "none"}
        )
        print(f"{name:44s} {spread.median:9.1f} us   first after {first[name]:6.1f} s   needs {needs or 'nothing'}")
    shape = (24, 64)
    products = {
        "plain Numba loops": plain_product(*shape),
        "BLAS": blas_product(*shape),
        "kernel's tiles": vector_product(*shape),
    }
    rates, _ = interleaved(products, given.rounds, given.seconds)
    for name, found in rates.items():
        cost = Spread.of([1e6 / r for r in found])
        rows.append({"product of [24, 64] and [64, 64]": name, "us": cost.record()})
        print(f"product, {name:35s} {cost.median:9.2f} us")
    others = min(row["us"]["median"] for row in rows if row.get("engine") not in (None, OURS))
    gain = others / next(row["us"]["median"] for row in rows if row.get("engine") == OURS)
    claim = Claim("3.2b", "the chosen kernel over the fastest other engine", gain, ">= 1", gain >= 1.0)
    write_result("kernel_engines", question=__doc__.splitlines()[0], rows=rows, claims=[claim])


if __name__ == "__main__":
    main()
