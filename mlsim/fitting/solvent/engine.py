"""How the forces of a model are computed while it is trained.

``exact`` differentiates the model twice, for any model on any device. ``tabulated`` is several times quicker for an
ISSNet on the CPU (see ``models.issnet.tabulated``). ``auto`` takes the quicker one that is possible.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mlsim.errors import SettingsError
from mlsim.models.contract import AbstractEnergyModel

#: Positions [B, N, 3] (nm) to energies [B] (kJ/mol) and forces [B, N, 3] (kJ/mol/nm), differentiable in the parameters.
ForceEngine = Callable[[Tensor], tuple[Tensor, Tensor]]


def force_engine(model: AbstractEnergyModel, types: Tensor, charges: Tensor, choice: str) -> ForceEngine:
    """The engine called ``choice`` (``auto``, ``exact`` or ``tabulated``) for one molecule's atoms.

    Raises
    ------
    SettingsError
        If ``tabulated`` is asked for a model or device that it cannot serve.
    """
    from mlsim.models.issnet.solvation import ISSNet

    possible = isinstance(model, ISSNet) and next(model.parameters()).device.type == "cpu"
    if choice == "tabulated" and not possible:
        raise SettingsError("engine 'tabulated' serves ISSNet models on the CPU only; use 'exact' or 'auto'")
    if choice != "exact" and possible and isinstance(model, ISSNet):
        from mlsim.models.issnet.tabulated import TabulatedForces  # compiles kernels; only when used

        return TabulatedForces(model, types, charges)
    return lambda positions: model.energy_and_forces(positions, types, charges)


def use_threads(number: int) -> None:
    """Let this process compute with ``number`` threads (at least one)."""
    torch.set_num_threads(max(1, number))
