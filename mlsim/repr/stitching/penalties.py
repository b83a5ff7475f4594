"""The stitching penalty: what it costs to exchange the lower layers.

    penalty_l = error(top_A above l  o  stitch  o  bottom_B up to l)  -  error(A)

Both networks stay frozen, the stitch is solved by least squares on matched activations and then trained on the task of
A. Near zero: the top of A can work with what B computes; negative: B's bottom is better than A's own; large: A
finds in B's activations nothing that a linear map could turn into what it needs. ``direct`` is the penalty of the
least-squares solution alone, before the task trained anything: matching activations is not yet matching function.

Why the solved stitch is kept when training made it worse on the training rows: the stitch is a lower bound of what is
possible, and a bad learning rate must not read as a dissimilarity.

Symbols: l ``layer``; A ``top``; B ``bottom``.

Reference: Bansal, Nakkiran & Barak 2021, arXiv:2106.07682.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from mlsim.errors import UnphysicalError
from mlsim.repr.stitching.cka import linear_cka
from mlsim.repr.stitching.cut import Cut, Inputs
from mlsim.repr.stitching.stitch import Stitch, VectorStitch, stitch_between
from mlsim.repr.stitching.tasks import Network, Task
from mlsim.seeds import torch_stream
from mlsim.settings import Settings


class StitchSettings(Settings):
    """How a stitch is made: rows for least squares, then Adam with a cosine to zero; ``steps`` zero: least squares
    only."""

    family: str = Field("auto", pattern="^(auto|linear|conv1x1|vector)$")
    ridge: float = Field(1e-6, gt=0)
    match_rows: int = Field(1000, ge=8)
    steps: int = Field(200, ge=0)
    batch_size: int = Field(128, ge=1)
    learning_rate: float = Field(1e-2, gt=0)
    cka_rows: int = Field(500, ge=8)
    seed: int = Field(1, ge=0)


@dataclass(frozen=True)
class Penalty:
    """One stitch: ``penalty`` and ``direct`` in the unit of the task, relative to ``error`` of the whole top
    network."""

    layer: str
    bottom_layer: str
    error: float
    penalty: float
    direct: float
    cka: float


def penalty(
    top: Cut,
    bottom: Cut,
    task: Task,
    layer: str,
    bottom_layer: str | None = None,
    settings: StitchSettings | None = None,
) -> Penalty:
    """Stitch the bottom of one network under the top of another and measure.

    Parameters
    ----------
    top, bottom : Cut
        A and B; may be the same.
    task : Task
        Of A.
    layer, bottom_layer : str
        Where A and B are cut; B's defaults to A's.
    settings : StitchSettings, optional

    Raises
    ------
    InputError
        If a layer is unknown or the activations differ in more than channels.
    UnphysicalError
        If the loss is no number.
    """
    given = settings or StitchSettings()
    lower = bottom.require(layer if bottom_layer is None else bottom_layer)
    top.require(layer)
    generator = torch_stream(given.seed, "stitch")
    chosen = torch.randperm(task.n_train, generator=generator)[: given.match_rows]
    inputs = task.inputs(chosen)
    with torch.no_grad():
        x, y = bottom.bottom(lower, inputs), top.bottom(layer, inputs)
        seen = task.held_out(given.cka_rows)
        alike = linear_cka(*(_examples(cut.bottom(at, seen)) for cut, at in ((bottom, lower), (top, layer))))
    stitch = stitch_between(x, y, given.family).to(y.dtype)
    stitch.solve(x, y, given.ridge)
    run = stitched(top, bottom, stitch, layer, lower)
    error = task.error(top.whole)
    direct = task.error(run)
    _train(stitch, run, task, given, generator)
    return Penalty(layer, lower, error, task.error(run) - error, direct - error, alike)


def stitched(top: Cut, bottom: Cut, stitch: Stitch | VectorStitch, layer: str, bottom_layer: str) -> Network:
    """The stitched network as a function of its inputs."""

    def run(inputs: Inputs) -> Tensor:
        return top.top(layer, stitch(bottom.bottom(bottom_layer, inputs)), inputs)

    return run


def _examples(hidden: Tensor) -> Tensor:
    """Rows that CKA compares: every token or atom is one, a map is one as a whole."""
    return hidden.flatten(0, 1) if hidden.ndim == 3 else hidden


def _train(
    stitch: Stitch | VectorStitch, run: Network, task: Task, settings: StitchSettings, generator: torch.Generator
) -> None:
    """Train the stitch on the task; keep it only if the loss on fixed training rows fell."""
    if settings.steps == 0:
        return
    fixed = torch.randperm(task.n_train, generator=generator)[: 4 * settings.batch_size]
    start, before = copy.deepcopy(stitch.state_dict()), float(task.loss(run, fixed).detach())
    optimizer = torch.optim.Adam(stitch.parameters(), lr=settings.learning_rate)
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
        index = torch.randint(task.n_train, (settings.batch_size,), generator=generator)
        loss = task.loss(run, index)
        if not math.isfinite(loss.item()):
            raise UnphysicalError(f"stitch: loss became {loss.item()} in step {step + 1}; lower learning_rate")
        gradients = torch.autograd.grad(loss, list(stitch.parameters()))
        for parameter, gradient in zip(stitch.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
    if not float(task.loss(run, fixed).detach()) <= before:
        stitch.load_state_dict(start)
