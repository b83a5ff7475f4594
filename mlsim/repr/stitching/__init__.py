"""Stitching: put the lower layers of one network under the upper layers of another, and see what is lost.

    from mlsim.repr.stitching import Classification, HookedModel, stitch_report
    table = stitch_report(HookedModel(a, layers), HookedModel(b, layers), Classification(...))    # pandas.DataFrame

References: Bansal, Nakkiran and Barak, NeurIPS 2021 (arXiv:2106.07682); direct matching by least squares: Csiszarik
et al., NeurIPS 2021 (arXiv:2110.14633).

Names are imported when they are first used.
"""

from __future__ import annotations

from typing import Any

from mlsim.repr.lazy import member

_HOMES = {
    "Classification": "mlsim.repr.stitching.tasks",
    "Cut": "mlsim.repr.stitching.cut",
    "ForceFieldCut": "mlsim.repr.stitching.force_fields",
    "ForceMatch": "mlsim.repr.stitching.force_fields",
    "HookedModel": "mlsim.repr.stitching.cut",
    "Stitch": "mlsim.repr.stitching.stitch",
    "StitchSettings": "mlsim.repr.stitching.penalties",
    "VectorStitch": "mlsim.repr.stitching.stitch",
    "linear_cka": "mlsim.repr.stitching.cka",
    "penalty": "mlsim.repr.stitching.penalties",
    "stitch_report": "mlsim.repr.stitching.penalty_report",
    "with_readout": "mlsim.repr.stitching.tasks",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    return member(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return list(__all__)
