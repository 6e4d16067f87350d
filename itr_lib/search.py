"""An index that is searched in two stages: one dot product an item, then an alignment for the few that come first.

Two-stage inference as in TGDT (Liu et al., IEEE TIP 2023). Nothing here knows a model, only what encoders return: a
vector an item, or a vector and tokens. Everything is kept, and searched, on the CPU.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from itr_lib.encoders.tokens import GlobalTokens
from itr_lib.similarity import l2_normalise
from itr_lib.validation import (
    expect_choice,
    expect_count,
    expect_dims,
    expect_finite,
    expect_float,
    expect_mask,
    expect_shape,
)

TOKEN_DTYPES = (torch.float32, torch.float16)
BUDGET = 2**22  # bytes that scores, or tokens taken out of the index, may fill at once: what a CPU's cache holds
FORMAT, VERSION = "itr_lib.search.TwoStageIndex", "1"


class Found(NamedTuple):
    """The first items for each query, best first: ``top`` of them, or all where the index holds fewer."""

    ids: list[list[str]]
    rows: Int[Tensor, "queries top"]  # an item's place in the order in which items were added
    scores: Float[Tensor, "queries top"]


class TwoStageIndex:
    """Images to be found by captions, or captions by images.

    Vectors are brought to length 1 and kept in float32; tokens are kept as they are, without padding.

    Args:
        side: what the items are, ``"images"`` or ``"captions"``.
        token_dtype: how tokens are kept: ``torch.float32``, or ``torch.float16`` in half the memory. Alignments are
            computed in float32 either way.
    """

    def __init__(self, side: str, *, token_dtype: torch.dtype = torch.float32):
        expect_choice("side", side, ("images", "captions"))
        expect_choice("token_dtype", token_dtype, TOKEN_DTYPES)
        self.side, self.token_dtype = side, token_dtype
        self._ids: list[str] = []
        self._known: set[str] = set()
        # What each call of `add` brought: "whole" (items, dim), and where there are tokens "tokens" (elements, width),
        # item after item, and "ends" (items,), the row of "tokens" behind each item's last.
        self._parts: dict[str, list[Tensor]] = {}

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> list[str]:
        """Of all items, in the order in which they were added."""
        return list(self._ids)

    @property
    def bytes_per_item(self) -> float:
        """Bytes of vectors, tokens and where each item's tokens end, a mean over the items; ids are not counted."""
        return sum(part.nbytes for parts in self._parts.values() for part in parts) / max(1, len(self))

    def add(self, ids: Sequence[str], encoded: Tensor | GlobalTokens) -> None:
        """Add items: all of them, or none where something is wrong.

        Args:
            ids: n names, all different, and different from those that are there.
            encoded: what an encoder returned: (n, D) of a model without a second stage, or
                :class:`itr_lib.encoders.tokens.GlobalTokens`; in one index always the same kind and widths.

        Raises:
            ValueError: for an id that is there already, another number of rows, another kind or width, or NaN.
        """
        ids = _checked_ids(ids, self._known)
        new = _unpadded(encoded)
        if len(ids) != len(new["whole"]):
            raise ValueError(f"ids holds {len(ids)} names, expected {len(new['whole'])}: one for each row of encoded")
        self._expect_alike(new)
        if "tokens" in new:
            new["tokens"] = _finite("encoded.vectors", new["tokens"].to(self.token_dtype))
            new["ends"] = sum(len(part) for part in self._parts.get("tokens", ())) + new.pop("sizes").cumsum(0)
        for key, part in new.items():
            self._parts.setdefault(key, []).append(part)
        self._ids += ids
        self._known.update(ids)

    @torch.no_grad()
    def query(
        self, encoded: Tensor | GlobalTokens, *, shortlist: int = 100, top: int = 10, local_weight: float = 1.0
    ) -> Found:
        """The best items for each of a batch of queries of the other modality.

        All items are scored by the dot product of unit vectors. Where there are tokens, the first ``shortlist`` are
        ordered anew by global + ``local_weight`` * MrSw: the sum over the words of each word's best region, as
        :func:`itr_lib.similarity.alignment_scores` has it. That is ``shortlist`` alignments a query, however many
        items there are. The others follow in their global order, with their global scores.

        Of items with the same score the one that was added first comes first, in both stages. The same means to the
        last bit: a product rounds by where a row lies, so two copies of an item can differ by one.

        Args:
            encoded: (q, D), or :class:`itr_lib.encoders.tokens.GlobalTokens` where the items have tokens.
            shortlist: how many items the second stage sees; of no effect where there are no tokens.
            top: how many items to return.
            local_weight: what an alignment's score is multiplied by.

        Raises:
            ValueError: for an empty index, queries of another kind or width than the items, NaN, a shortlist or top
                that is no whole number of 1 or more, or a weight that is not finite.
        """
        expect_count("shortlist", shortlist)
        expect_count("top", top)
        expect_finite("local_weight", local_weight)
        if not len(self):
            raise ValueError("the index is empty: add items before the first query")
        queries = _unpadded(encoded)
        self._expect_alike(queries)
        wholes, top = queries["whole"], min(int(top), len(self))
        shortlist = min(int(shortlist), len(self)) if "tokens" in queries else top
        tokens = queries["tokens"].split(queries["sizes"].tolist()) if "tokens" in queries else [None] * len(wholes)
        items, at_once = self._all("whole").T, max(1, BUDGET // (4 * len(self)))
        rows, values = np.empty((len(wholes), top), np.int64), np.empty((len(wholes), top), np.float32)
        for start in range(0, len(wholes), at_once):
            for i, scores in enumerate(wholes[start : start + at_once] @ items, start):
                rows[i], values[i] = self._ranked(scores, tokens[i], shortlist, top, local_weight)
        ids = [[self._ids[row] for row in some] for some in rows.tolist()]
        return Found(ids, torch.from_numpy(rows), torch.from_numpy(values))

    def _ranked(
        self, scores: Float[Tensor, " items"], tokens: Tensor | None, shortlist: int, top: int, weight: float
    ) -> tuple[Int[np.ndarray, " top"], Float[np.ndarray, " top"]]:
        """Rows and scores of the first ``top`` items for one query; ``scores`` are the global ones."""
        rows, whole = _first(scores, shortlist), scores.numpy()  # as they lie in memory, and as ties are broken
        values = whole[rows]
        if tokens is not None:
            values = values + np.float32(weight) * self._alignments(rows, tokens)
        order = np.argsort(-values, kind="stable")
        rows, values = rows[order], values[order]
        if top > shortlist:
            others = _first(scores.index_fill(0, torch.from_numpy(rows), -torch.inf), top - shortlist)
            others = others[np.argsort(-whole[others], kind="stable")]
            rows, values = np.concatenate([rows, others]), np.concatenate([values, whole[others]])
        return rows[:top], values[:top]

    def _alignments(
        self, rows: Int[np.ndarray, " some"], tokens: Float[Tensor, "q width"]
    ) -> Float[np.ndarray, " some"]:
        """MrSw of one query with some items, ascending rows, as many at once as fit the budget."""
        ends = self._all("ends").numpy()
        starts, ends = np.where(rows > 0, ends[rows - 1], 0), ends[rows]
        widest = max(1, int((ends - starts).max()))
        at_once = max(1, BUDGET // (4 * widest * (tokens.shape[1] + len(tokens))))
        blocks = [slice(first, first + at_once) for first in range(0, len(rows), at_once)]
        return np.concatenate([self._block_alignments(starts[b], ends[b], tokens) for b in blocks])

    def _block_alignments(
        self, starts: Int[np.ndarray, " some"], ends: Int[np.ndarray, " some"], tokens: Float[Tensor, "q width"]
    ) -> Float[np.ndarray, " some"]:
        """One product of the query's tokens with all tokens of the items, one after the other; then item by item."""
        sizes = ends - starts
        scores, real, total = np.zeros(len(sizes), np.float32), sizes > 0, int(sizes.sum())
        if not total or not len(tokens):
            return scores  # an empty side scores 0
        kept = self._all("tokens")
        if ends[-1] - starts[0] == total:  # neighbours: no copy
            vectors = kept[starts[0] : ends[-1]]
        else:  # numpy copies slices in half the time of torch's index_select
            each = kept.numpy()
            spans = zip(starts.tolist(), ends.tolist(), strict=True)
            vectors = torch.from_numpy(np.concatenate([each[first:last] for first, last in spans]))
        # This way round, and numpy's reduceat over the items, took half the time of torch's segment_reduce.
        dots = (tokens @ vectors.float().T).numpy()  # (q, elements)
        edges = (sizes.cumsum() - sizes)[real]
        if self.side == "images":  # elements are regions: the best in each image, summed over the words asked with
            scores[real] = np.maximum.reduceat(dots, edges, axis=1).sum(axis=0)
        else:  # elements are words: the best of the regions asked with, summed over each caption
            scores[real] = np.add.reduceat(dots.max(axis=0), edges)
        return scores

    def save(self, path: str | Path) -> None:
        """Write the index to one safetensors file, for :meth:`load`; the file is whole or not there.

        Raises:
            ValueError: for an empty index.
            OSError: when the file cannot be written.
        """
        if not len(self):
            raise ValueError("the index is empty: there is nothing to save")
        tensors = {key: self._all(key) for key in self._parts}
        about = {"format": FORMAT, "version": VERSION, "side": self.side, "ids": json.dumps(self._ids)}
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        making = path.with_name(f"{path.name}.{secrets.token_hex(4)}.making")
        try:
            save_file(tensors, making, about | {"sha256": _digest(tensors, about)})
            with open(making, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(making, path)
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written: {error}") from error
        finally:
            making.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> TwoStageIndex:
        """Read what :meth:`save` wrote: the same index, which answers alike and can be added to.

        Raises:
            ValueError: for a file that is not there, is damaged, holds something else, or has another version.
        """
        try:
            with safe_open(path, "pt") as file:
                about = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ValueError(
                f"{path} cannot be read as an index, it is missing, damaged or no index: {error}"
            ) from error
        if about.get("format") != FORMAT:
            raise ValueError(f"{path} holds no index: expected a file that TwoStageIndex.save wrote")
        if about.get("version") != VERSION:
            raise ValueError(
                f"{path} holds an index of version {about.get('version')}, expected {VERSION}: make the index again"
            )
        if about.get("sha256") != _digest(tensors, about):
            raise ValueError(f"{path} is damaged, its content is not what was saved: make the index again")
        index = cls(about["side"], token_dtype=tensors["tokens"].dtype if "tokens" in tensors else torch.float32)
        index._parts = {key: [tensor] for key, tensor in tensors.items()}
        index._ids = json.loads(about["ids"])
        index._known = set(index._ids)
        return index

    def _all(self, key: str) -> Tensor:
        parts = self._parts[key]
        if len(parts) > 1:
            parts[:] = [torch.cat(parts)]
        return parts[0]

    def _expect_alike(self, new: dict[str, Tensor]) -> None:
        """Raise ``ValueError`` unless ``new`` is of the kind and the widths of what is here, if anything is."""
        if not self._parts:
            return
        if "tokens" in self._parts and "tokens" not in new:
            raise ValueError("encoded is a vector each, but the index has tokens too: expected GlobalTokens")
        if "tokens" not in self._parts and "tokens" in new:
            raise ValueError(
                "encoded has tokens, but the index has only a vector an item: give encoded.whole, or make an index of"
                " GlobalTokens to have a second stage"
            )
        for key, name in (("whole", "vectors"), ("tokens", "token vectors")):
            if key in new and new[key].shape[1] != (width := self._parts[key][0].shape[1]):
                raise ValueError(f"encoded has {name} of {new[key].shape[1]} numbers, expected {width} as in the index")


def _checked_ids(ids: Sequence[str], known: set[str]) -> list[str]:
    ids, seen = list(ids), set()
    for name in ids:
        if not isinstance(name, str):
            raise ValueError(f"ids holds {name!r}, expected strings")
        if name in known or name in seen:
            raise ValueError(f"ids holds {name!r}, which {'is in the index already' if name in known else 'is twice'}")
        seen.add(name)
    return ids


def _unpadded(encoded: Tensor | GlobalTokens) -> dict[str, Tensor]:
    """Copies on the CPU in float32: "whole", unit vectors, and of GlobalTokens real "tokens" and their "sizes"."""
    if not isinstance(encoded, Tensor | GlobalTokens):
        raise ValueError(
            f"encoded is a {type(encoded).__name__}, expected a tensor (n, D) or GlobalTokens: the first stage needs a"
            " vector for the whole; a model that has only tokens is scored by alignment_scores"
        )
    tokens = isinstance(encoded, GlobalTokens)
    whole, name = (encoded.whole, "encoded.whole") if tokens else (encoded, "encoded")
    expect_dims(name, whole, "items", "dim")
    expect_float(name, whole)
    parts = {"whole": l2_normalise(_finite(name, whole.detach().cpu().float()))}
    if tokens:
        expect_dims("encoded.vectors", encoded.vectors, "items", "tokens", "dim")
        expect_float("encoded.vectors", encoded.vectors)
        expect_shape("encoded.vectors", encoded.vectors, (len(whole), *encoded.vectors.shape[1:]), "a row an item")
        expect_mask("encoded.mask", encoded.mask, tuple(encoded.vectors.shape[:2]), "as encoded.vectors")
        real = encoded.vectors.detach()[encoded.mask.to(encoded.vectors.device)]  # item after item
        parts["tokens"] = _finite("encoded.vectors", real.cpu().float())
        parts["sizes"] = encoded.mask.sum(dim=1).cpu()
    return parts


def _finite(name: str, vectors: Tensor) -> Tensor:
    if not vectors.isfinite().all():
        raise ValueError(f"{name} holds NaN or infinite numbers, at least as {vectors.dtype}")
    return vectors


def _first(scores: Float[Tensor, " items"], count: int) -> Int[np.ndarray, " count"]:
    """Rows of the ``count`` highest scores, ascending; among equal ones the first rows."""
    edge = scores.topk(count, sorted=False).values.amin().item()
    found = scores.numpy()
    rows = np.flatnonzero(found >= edge)
    if len(rows) > count:
        level = found[rows] == edge
        rows = rows[~level | (level.cumsum() <= count - (~level).sum())]
    return rows


def _digest(tensors: dict[str, Tensor], about: dict[str, str]) -> str:
    """SHA-256 of everything that is read back; safetensors itself notices only a file of another length."""
    digest = hashlib.sha256(json.dumps([about.get("side"), about.get("ids")]).encode())
    for key in sorted(tensors):
        digest.update(f"{key} {tensors[key].dtype} {tuple(tensors[key].shape)}".encode())
        digest.update(tensors[key].flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
