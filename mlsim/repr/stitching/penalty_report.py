"""stitch_report: the penalty at every layer, beside every control that tells what it means.

    penalty      bottom of B under top of A
    self         bottom of A under top of A: what the stitching itself costs, should be near zero
    other_seed   a network trained like A from another seed: what two equal networks cost
    random       B with fresh parameters: what a bottom without any training costs
    direct       penalty of the least-squares solution, before training the stitch
    cka          similarity of B's and A's activations; cka_random that of the random bottom

A penalty means something between ``self`` and ``random``: where these two are close (often in the first layer), the
layer says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mlsim.errors import DependencyError, InputError
from mlsim.repr.stitching.cut import Cut
from mlsim.repr.stitching.penalties import StitchSettings, penalty
from mlsim.repr.stitching.tasks import Task

if TYPE_CHECKING:
    import pandas


def stitch_report(
    top: Cut,
    bottom: Cut,
    task: Task,
    *,
    layers: Sequence[tuple[str, str]] | None = None,
    other_seed: Cut | None = None,
    settings: StitchSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pandas.DataFrame:
    """Penalties of B under A at every layer, with all controls.

    Parameters
    ----------
    top, bottom : Cut
        A and B.
    task : Task
        Of A; gives unit and rows.
    layers : sequence of (layer of A, layer of B), optional
        Default: the layers of A and B in order, which must be equally many.
    other_seed : Cut, optional
        A network made like A from another seed; without it the column holds NaN.
    settings : StitchSettings, optional
    progress : callable, optional
        ``progress(done, total)`` in stitches.

    Returns
    -------
    pandas.DataFrame
        One row per layer: ``layer``, ``bottom_layer``, ``error`` (of A), ``penalty``, ``self``, ``other_seed``,
        ``random``, ``direct``, ``cka``, ``cka_random``, ``unit``.

    Raises
    ------
    InputError
        If layers do not fit together.
    DependencyError
        If pandas is missing.
    """
    try:
        import pandas
    except ImportError:
        raise DependencyError('stitch_report needs pandas; install it with: pip install "mlsim[repr]"') from None
    given = settings or StitchSettings()
    if layers is None:
        if len(top.layers) != len(bottom.layers):
            raise InputError(
                f"layers: the networks have {len(top.layers)} and {len(bottom.layers)} layers; "
                "say which belong together, e.g. layers=[('conv.1', 'conv.2')]"
            )
        layers = list(zip(top.layers, bottom.layers, strict=True))
    random = bottom.randomised(given.seed)
    total, done = len(layers) * (4 if other_seed else 3), 0

    def count() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    rows = []
    for layer, lower in layers:
        main = penalty(top, bottom, task, layer, lower, given)
        count()
        own = penalty(top, top, task, layer, layer, given)
        count()
        fresh = penalty(top, random, task, layer, lower, given)
        count()
        seed = float("nan")
        if other_seed is not None:
            seed = penalty(top, other_seed, task, layer, layer, given).penalty
            count()
        rows.append(
            {
                "layer": layer,
                "bottom_layer": lower,
                "error": main.error,
                "penalty": main.penalty,
                "self": own.penalty,
                "other_seed": seed,
                "random": fresh.penalty,
                "direct": main.direct,
                "cka": main.cka,
                "cka_random": fresh.cka,
                "unit": task.unit,
            }
        )
    return pandas.DataFrame(rows)
