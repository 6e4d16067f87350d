"""What encoders return, checked, and without its padding: how an index keeps its items and reads its queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from itr_lib.encoders.tokens import Encoded, GlobalTokens, Tokens
from itr_lib.similarity import l2_normalise
from itr_lib.validation import expect_dims, expect_float, expect_mask, expect_shape

KINDS = {
    ("whole",): "a vector each",
    ("tokens",): "tokens each",
    ("tokens", "whole"): "a vector and tokens each",
}


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
        parts["tokens"] = finite("encoded.vectors", vectors.detach()[mask.to(vectors.device)].cpu().float())
        parts["sizes"] = mask.sum(dim=1).cpu()
    return parts


def items_in(parts: Mapping[str, Tensor]) -> int:
    """How many items :func:`unpadded` returned."""
    return len(parts["whole" if "whole" in parts else "sizes"])


def expect_alike(new: Mapping[str, Tensor], kept: Mapping[str, Sequence[Tensor]]) -> None:
    """Raise ``ValueError`` unless ``new`` is of the kind and the widths of what an index has ``kept``."""
    came, expected = _kind(new), _kind(kept)
    if came != expected:
        part = {"a vector each": "encoded.whole", "tokens each": "encoded.tokens"}.get(expected)
        more = f": give {part}" if came == KINDS["tokens", "whole"] else ""
        raise ValueError(f"encoded has {came}, expected {expected} as the items of this index have{more}")
    for key, name in (("whole", "vectors"), ("tokens", "token vectors")):
        if key in new and new[key].shape[1] != (width := kept[key][0].shape[1]):
            raise ValueError(f"encoded has {name} of {new[key].shape[1]} numbers, expected {width} as in the index")


def new_ids(ids: Sequence[str], known: set[str]) -> list[str]:
    """The names as a list. Raises ``ValueError`` where one is no string, is known already, or comes twice."""
    if isinstance(ids, str):  # a sequence of strings, too: its letters
        raise ValueError(f"ids is {ids!r}, expected a list of strings")
    ids, seen = list(ids), set()
    for name in ids:
        if not isinstance(name, str):
            raise ValueError(f"ids holds {name!r}, expected strings")
        if name in known or name in seen:
            raise ValueError(f"ids holds {name!r}, which {'is in the index already' if name in known else 'is twice'}")
        seen.add(name)
    return ids


def finite(name: str, vectors: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
    """The vectors themselves. Raises ``ValueError`` where one holds a NaN or an infinite number."""
    if not vectors.isfinite().all():
        raise ValueError(f"{name} holds NaN or infinite numbers, at least as {vectors.dtype}")
    return vectors


def _kind(parts: Mapping[str, object]) -> str:
    return KINDS[tuple(sorted({"whole", "tokens"} & parts.keys()))]
