"""How far a number can be trusted that comes from a few cases, as when somebody judges twenty misses by hand."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

Z = 1.96  # 95 % of a normal distribution lie within 1.96 standard deviations


def wilson_interval(hits: int, total: int, z: float = Z) -> tuple[float, float]:
    """Lowest and highest share, 0 to 1, that ``hits`` of ``total`` speak for (Wilson, JASA 22, 1927); 95 % by default.

    Unlike share ± z standard errors it stays within 0 and 1, and has a width where all cases are hits, or none.

    Raises:
        ValueError: for a total below 1, or hits that are not within 0 and the total.
    """
    if not 0 <= hits <= total or total < 1:
        raise ValueError(f"{hits} hits of {total}: expected 0 or more, of at least 1, and no more than there are")
    centre = (hits + z**2 / 2) / (total + z**2)
    half = z / (total + z**2) * math.sqrt(hits * (total - hits) / total + z**2 / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def corrected_recall(recall: float, fits: Bool[Tensor, " judged"] | Bool[np.ndarray, " judged"]) -> Float[Tensor, "3"]:
    """Recall in percent as it would be, were a miss whose candidate fits a hit: lowest, value, highest.

    Args:
        recall: as measured, in percent, by pairs alone.
        fits: of misses drawn by lot, whether what came first fits all the same. That share is taken for all misses;
            the interval is Wilson's for it, 95 %, and knows nothing of how sure ``recall`` is.

    Raises:
        ValueError: for a recall outside 0..100, or for judgements that are none, or no truth values.
    """
    fits = torch.as_tensor(fits)
    if not 0 <= recall <= 100:
        raise ValueError(f"recall is {recall}, expected percent, 0 to 100")
    if fits.ndim != 1 or len(fits) == 0 or fits.dtype != torch.bool:
        raise ValueError(
            f"fits has shape {tuple(fits.shape)} and type {fits.dtype}, expected one bool for each judged miss"
        )
    hits, total = int(fits.sum()), len(fits)
    lowest, highest = wilson_interval(hits, total)
    return recall + (100 - recall) * torch.tensor([lowest, hits / total, highest], dtype=torch.float64)
