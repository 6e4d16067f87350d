"""What a frozen text model says of captions, worked out once: it would say the same at every epoch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from itr_lib.data.tokenisation import TokenisedCaptions
from itr_lib.progress import progress_bar

Read = Callable[[Tensor, Tensor], Tensor]  # ids and mask to one state a token
AT_ONCE = 256  # captions
AT_MOST = 2**30  # bytes of states; captions of more are read at every epoch


class KnownStates:
    """States of whole captions, found again by their token ids."""

    def __init__(self, read: Read, tokens: TokenisedCaptions, *, progress: bool = True):
        """Read all of ``tokens``, captions of like length together, and keep what ``read`` says of real tokens."""
        self._place: dict[bytes, int] = {}
        parts, kept = [], 0
        order = np.argsort(tokens.mask.sum(axis=1), kind="stable")
        with progress_bar(len(order), "reading captions", "captions", show=progress) as bar, torch.no_grad():
            for start in range(0, len(order), AT_ONCE):
                ids, mask = _narrow(*(array[order[start : start + AT_ONCE]] for array in tokens))
                parts.append(read(torch.from_numpy(ids), torch.from_numpy(mask))[torch.from_numpy(mask)])
                for row, real in zip(ids, mask, strict=True):
                    self._place[_key(row[real])] = kept
                    kept += int(real.sum())
                bar.update(len(ids))
        self._states: Float[Tensor, "tokens width"] = torch.cat(parts)

    def find(
        self, ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch tokens width"] | None:
        """The states of a batch, anything at padded places; None where one of its captions is not known."""
        places = [self._place.get(_key(row[real])) for row, real in zip(ids.numpy(), mask.numpy(), strict=True)]
        if None in places:
            return None
        rows = torch.tensor(places)[:, None] + torch.arange(ids.shape[1])
        return self._states[rows.clamp(max=len(self._states) - 1)]


def can_be_kept(tokens: TokenisedCaptions, width: int) -> bool:
    """Whether states of this width stay below the limit, and captions begin in their first place."""
    return bool(tokens.mask[:, 0].all()) and 4 * width * int(tokens.mask.sum()) <= AT_MOST


def _narrow(ids: np.ndarray, mask: np.ndarray) -> tuple[Int[np.ndarray, "_ _w"], Bool[np.ndarray, "_ _w"]]:
    width = int(mask.sum(axis=1).max())
    return ids[:, :width], mask[:, :width]


def _key(ids: Int[np.ndarray, " tokens"]) -> bytes:
    return ids.astype(np.int32).tobytes()
