"""A quantity of comparisons."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlsim.analysis.quantities import Quantity
from mlsim.analysis.uncertainty import Estimate


def _largest_difference(reference: Any, candidate: Any, mask: Any) -> Estimate:
    return Estimate.unbounded(float(np.abs(candidate.probability - reference.probability).max()))


largest_difference = Quantity("largest difference", "", _largest_difference)
