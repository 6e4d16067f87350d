"""What encoders return, checked, and without its padding: how an index keeps its items and reads its queries."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from itr_lib.encoders.tokens import Encoded, GlobalTokens, Tokens
from itr_lib.similarity import Alignment, l2_normalise
from itr_lib.validation import (
    expect_choice,
    expect_count,
    expect_dims,
    expect_finite,
    expect_float,
    expect_mask,
    expect_shape,
)

SIDES = ("images", "captions")
TOKEN_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int8)

KINDS = {
    ("whole",): "a vector each",
    ("tokens",): "tokens each",
    ("tokens", "whole"): "a vector and tokens each",
}


def expect_how(side: str, alignment: Alignment | None, local_weight: float, token_dtype: torch.dtype) -> None:
    """Raise ``ValueError`` unless an index can be made with these."""
    expect_choice("side", side, SIDES)
    expect_choice("token_dtype", token_dtype, TOKEN_DTYPES)
    expect_finite("local_weight", local_weight)
    if not isinstance(alignment, Alignment | None):
        raise ValueError(f"alignment is {alignment!r}, expected an itr_lib.similarity.Alignment or None")


def expect_question(items: int, shortlist: int, top: int, local_weight: float) -> None:
    """Raise ``ValueError`` unless an index of so many items can be asked with these."""
    expect_count("shortlist", shortlist)
    expect_count("top", top)
    expect_finite("local_weight", local_weight)
    if not items:
        raise ValueError("the index is empty: add items before the first query")


def read(encoded: Encoded, alignment: Alignment | None, widths: Mapping[str, int]) -> dict[str, Tensor]:
    """What an encoder returned, :func:`unpadded`; ``widths``: of what an index has, empty where that is nothing yet.

    Raises:
        ValueError: where it does not belong into an index with this alignment and these widths.
    """
    new = unpadded(encoded)
    if "tokens" in new and alignment is None:
        raise ValueError(
            "encoded has tokens, but this index has no alignment: expected a vector each, or an index made with"
            " one, as TwoStageIndex.for_model does"
        )
    if widths:
        _expect_alike(new, widths)
    return new


def read_with_vectors(encoded: Encoded, alignment: Alignment | None, widths: Mapping[str, int]) -> dict[str, Tensor]:
    """What :func:`read` returns, for an index whose first stage needs a vector each. Raises ``ValueError`` likewise."""
    new = read(encoded, alignment, widths)
    if "whole" not in new:
        raise ValueError("encoded has tokens each, expected a vector and tokens each, or a vector each: a first stage")
    return new


def compact(tokens: Float[Tensor, "elements width"], kind: torch.dtype) -> dict[str, Tensor]:
    """ "tokens" as they are kept, and "scales", by which whole numbers are multiplied: a token's largest entry is 127.

    Raises:
        ValueError: for a number that is too large for ``kind``.
    """
    if kind != torch.int8:
        return {"tokens": finite("encoded.vectors", tokens.to(kind))}
    scales = tokens.abs().amax(dim=1) / 127
    return {"tokens": (tokens / torch.where(scales > 0, scales, 1)[:, None]).round().to(kind), "scales": scales}


def unpadded(encoded: Encoded) -> dict[str, Tensor]:
    """Copies on the CPU in float32, as far as there are any.

    Returns:
        "whole" (items, dim), unit vectors; "tokens" (elements, width), the real ones item after item; "sizes" (items,),
        how many those are of each item.

    Raises:
        ValueError: for another type, shapes that do not fit, NaN or infinite numbers.
    """
    if not isinstance(encoded, Tensor | Tokens | GlobalTokens):
        raise ValueError(f"encoded is a {type(encoded).__name__}, expected a tensor (n, D), Tokens or GlobalTokens")
    parts = {}
    if not isinstance(encoded, Tokens):
        whole, name = (encoded, "encoded") if isinstance(encoded, Tensor) else (encoded.whole, "encoded.whole")
        expect_dims(name, whole, "items", "dim")
        expect_float(name, whole)
        parts["whole"] = l2_normalise(finite(name, whole.detach().cpu().float()))
    if not isinstance(encoded, Tensor):
        vectors, mask = encoded.vectors, encoded.mask
        expect_dims("encoded.vectors", vectors, "items", "tokens", "dim")
        expect_float("encoded.vectors", vectors)
        count = len(parts.get("whole", vectors))
        expect_shape("encoded.vectors", vectors, (count, *vectors.shape[1:]), "a row an item")
        expect_mask("encoded.mask", mask, tuple(vectors.shape[:2]), "as encoded.vectors")
        vectors, mask = vectors.detach().cpu().float(), mask.cpu().numpy()
        parts["tokens"] = finite("encoded.vectors", torch.from_numpy(vectors.numpy()[mask]))
        parts["sizes"] = torch.from_numpy(mask.sum(axis=1))
    return parts


def items_in(parts: Mapping[str, Tensor]) -> int:
    """How many items :func:`unpadded` returned."""
    return len(parts["whole" if "whole" in parts else "sizes"])


def _expect_alike(new: Mapping[str, Tensor], widths: Mapping[str, int]) -> None:
    came, expected = _kind(new), _kind(widths)
    if came != expected:
        part = {"a vector each": "encoded.whole", "tokens each": "encoded.tokens"}.get(expected)
        more = f": give {part}" if came == KINDS["tokens", "whole"] else ""
        raise ValueError(f"encoded has {came}, expected {expected} as the items of this index have{more}")
    for key, name in (("whole", "vectors"), ("tokens", "token vectors")):
        if key in new and new[key].shape[1] != (width := widths[key]):
            raise ValueError(f"encoded has {name} of {new[key].shape[1]} numbers, expected {width} as in the index")


def new_ids(ids: Sequence[str], count: int, known: Collection[str] = ()) -> list[str]:
    """``count`` names as a list. Raises ``ValueError`` where one is no string, is known already, or comes twice."""
    if isinstance(ids, str):  # a sequence of strings, too: its letters
        raise ValueError(f"ids is {ids!r}, expected a list of strings")
    ids, seen = list(ids), set()
    for name in ids:
        if not isinstance(name, str):
            raise ValueError(f"ids holds {name!r}, expected strings")
        if name in known or name in seen:
            raise ValueError(f"ids holds {name!r}, which {'is in the index already' if name in known else 'is twice'}")
        seen.add(name)
    if len(ids) != count:
        raise ValueError(f"ids holds {len(ids)} names, expected {count}: one for each row of encoded")
    return ids


def finite(name: str, vectors: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
    """The vectors themselves. Raises ``ValueError`` where one holds a NaN or an infinite number."""
    if not np.isfinite(vectors.float().numpy()).all():  # torch's own takes four times as long for a few
        raise ValueError(f"{name} holds NaN or infinite numbers, at least as {vectors.dtype}")
    return vectors


def _kind(parts: Mapping[str, object]) -> str:
    return KINDS[tuple(sorted({"whole", "tokens"} & parts.keys()))]
