"""Search in two stages: one dot product an item, then an alignment for the few that come first.

Two-stage inference as in TGDT (Liu et al., IEEE TIP 2023). A model whose items have vectors alone, or tokens alone, is
searched in one stage. Everything is kept, and searched, on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from itr_lib.encoders.tokens import Encoded
from itr_lib.models import AligningModel, RetrievalModel, TwoStageModel
from itr_lib.search import alignments, file
from itr_lib.search.encodings import compact, expect_how, expect_question, items_in, new_ids, read
from itr_lib.search.shortlists import first, reorder
from itr_lib.similarity import MRSW, Alignment

PARTS = {"whole", "tokens"}


class Found(NamedTuple):
    """The first items for each query, best first: ``top`` of them, or all where the index holds fewer."""

    ids: list[list[str]]
    rows: Int[Tensor, "queries top"]  # an item's place in the order in which items were added
    scores: Float[Tensor, "queries top"]


class TwoStageIndex:
    """Images to be found by captions, or captions by images.

    Vectors are brought to length 1 and kept in float32; tokens are kept as they are, without padding. How an item is
    scored follows from what it has: a vector, by its cosine; tokens, by their alignment; both, by the cosine, and where
    that is among the first by cosine + ``local_weight`` * alignment. :meth:`for_model` takes the rest from a model.

    Args:
        side: what the items are, ``"images"`` or ``"captions"``.
        alignment: how tokens of items and queries are aligned, by default MrSw; None: no tokens are taken.
        local_weight: what an alignment's score counts beside the global one.
        token_dtype: how tokens are kept: ``torch.float32``; ``torch.float16`` or ``torch.bfloat16`` in half the memory;
            ``torch.int8``, whole numbers of up to 127 and a factor a token, in a quarter. Alignments are computed in
            float32 either way; ``python -m data_scripts.scale`` measures what rounding does to ranks.

    Raises:
        ValueError: for another side or kind of number, or a weight that is not finite.
    """

    def __init__(
        self,
        side: str,
        *,
        alignment: Alignment | None = MRSW,
        local_weight: float = 1.0,
        token_dtype: torch.dtype = torch.float32,
    ):
        expect_how(side, alignment, local_weight, token_dtype)
        self.side, self.token_dtype = side, token_dtype
        self.alignment, self.local_weight = alignment, float(local_weight)
        self._ids: list[str] = []
        self._known: set[str] = set()
        # What each call of `add` brought: "whole" (items, dim), and where there are tokens "tokens" (elements, width),
        # item after item, and "ends" (items,), the row of "tokens" behind each item's last.
        self._parts: dict[str, list[Tensor]] = {}

    @classmethod
    def for_model(cls, model: RetrievalModel, side: str, *, token_dtype: torch.dtype = torch.float32) -> TwoStageIndex:
        """An empty index that ranks as ``model.scores`` does what the model's encoders return.

        With the alignment of an :class:`itr_lib.models.AligningModel` (any other is taken to compare vectors, by their
        cosine) and the weight of a :class:`itr_lib.models.TwoStageModel`.
        """
        alignment, local_weight = how(model)
        return cls(side, alignment=alignment, local_weight=local_weight, token_dtype=token_dtype)

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

    def add(self, ids: Sequence[str], encoded: Encoded) -> None:
        """Add items: all of them, or none where something is wrong.

        Args:
            ids: n names, all different, and different from those that are there.
            encoded: what an encoder returned: (n, D), :class:`itr_lib.encoders.tokens.Tokens` or
                :class:`itr_lib.encoders.tokens.GlobalTokens`; in one index always the same kind and widths.

        Raises:
            ValueError: for an id that is there already, another number of rows, another kind or width, or NaN.
        """
        new = self._read(encoded)
        ids = new_ids(ids, items_in(new), self._known)
        if "tokens" in new:
            new |= compact(new["tokens"], self.token_dtype)
            new["ends"] = sum(len(part) for part in self._parts.get("tokens", ())) + new.pop("sizes").cumsum(0)
        for key, part in new.items():
            self._parts.setdefault(key, []).append(part)
        self._ids += ids
        self._known.update(ids)

    @torch.no_grad()
    def query(
        self, encoded: Encoded, *, shortlist: int = 100, top: int = 10, local_weight: float | None = None
    ) -> Found:
        """The best items for each of a batch of queries of the other modality.

        All items are scored by the dot product of unit vectors. Where there are tokens too, the first ``shortlist`` are
        ordered anew by global + ``local_weight`` * alignment. That is ``shortlist`` alignments a query, however many
        items there are. The others follow in their global order, with their global scores. Where there are tokens
        alone every item is aligned, and that is its score.

        Of items with the same score the one that was added first comes first, in both stages. The same means to the
        last bit: a product rounds by where a row lies, so two copies of an item can differ by one.

        Args:
            encoded: q queries, of the same kind as the items.
            shortlist: how many items the second stage sees; of no effect where there is one stage alone.
            top: how many items to return.
            local_weight: what an alignment's score is multiplied by beside a global one; None: as the index was made.

        Raises:
            ValueError: for an empty index, queries of another kind or width than the items, NaN, a shortlist or top
                that is no whole number of 1 or more, or a weight that is not finite.
        """
        weight = self.local_weight if local_weight is None else local_weight
        expect_question(len(self), shortlist, top, weight)
        queries, top = self._read(encoded), min(int(top), len(self))
        shortlist = min(int(shortlist), len(self))
        if "whole" not in queries:  # nobody is ahead, so all are aligned
            every = torch.arange(len(self)).expand(items_in(queries), -1)
            values, rows = first(self._alignments(queries, every), top)
        else:
            values, rows = self._by_vectors(queries["whole"], max(top, shortlist if "tokens" in queries else 1))
            if "tokens" in queries:
                values, rows = reorder(values, rows, self._alignments(queries, rows[:, :shortlist]), weight)
        values, rows = values[:, :top], rows[:, :top]
        return Found([[self._ids[row] for row in found] for found in rows.tolist()], rows, values)

    def _by_vectors(
        self, wholes: Float[Tensor, "queries dim"], count: int
    ) -> tuple[Float[Tensor, "queries count"], Int[Tensor, "queries count"]]:
        """Scores and rows of the first items by their vectors; as many queries at once as fit the budget."""
        items, at_once = self._all("whole").T, max(1, alignments.BUDGET // (4 * len(self)))
        found = [first(some @ items, count) for some in wholes.split(at_once)]
        values, rows = zip(*found, strict=True)
        return torch.cat(values), torch.cat(rows)

    def _alignments(
        self, queries: dict[str, Tensor], rows: Int[Tensor, "queries some"]
    ) -> Float[Tensor, "queries some"]:
        """The tokens of each query with those of some items."""
        assert self.alignment is not None  # or `_read` had taken no tokens
        scales = self._all("scales") if "scales" in self._parts else None
        kept = alignments.Kept(self._all("tokens"), self._all("ends").numpy(), scales)
        return alignments.align(self.alignment, self.side, queries["tokens"], queries["sizes"], kept, rows)

    def save(self, path: str | Path) -> None:
        """Write the index to one safetensors file, for :meth:`load`; the file is whole or not there.

        Raises:
            ValueError: for an empty index.
            OSError: when the file cannot be written.
        """
        if not len(self):
            raise ValueError("the index is empty: there is nothing to save")
        alignment = self.alignment and asdict(self.alignment)
        about = {"side": self.side, "alignment": alignment, "local_weight": self.local_weight, "ids": self._ids}
        file.write(path, {key: self._all(key) for key in self._parts}, about)

    @classmethod
    def load(cls, path: str | Path, *, model: RetrievalModel | None = None, mapped: bool = False) -> TwoStageIndex:
        """Read what :meth:`save` wrote: the same index, which answers alike and can be added to.

        Args:
            path: the file.
            model: whose queries will come; by default nothing is asked about it.
            mapped: leave the numbers in the file and read those that queries ask for, so that even a large index is
                there at once. A changed byte is not noticed then, a file of another length is. :meth:`add` brings all
                into memory.

        Raises:
            ValueError: for a file that is not there, is damaged, holds something else, or has another version, and for
                a model that does not align tokens as this index does.
        """
        tensors, about = file.read(path, check=not mapped)
        alignment, weight = about["alignment"] and Alignment(**about["alignment"]), about["local_weight"]
        if model is not None and "tokens" in tensors and (alignment, weight) != (expected := how(model)):
            raise ValueError(
                f"{path} holds an index with {alignment} and a local weight of {weight}, expected {expected[0]} and"
                f" {expected[1]} as the model has: make the index again"
            )
        token_dtype = tensors["tokens"].dtype if "tokens" in tensors else torch.float32
        index = cls(about["side"], alignment=alignment, local_weight=weight, token_dtype=token_dtype)
        index._parts = {key: [tensor] for key, tensor in tensors.items()}
        index._ids = about["ids"]
        index._known = set(index._ids)
        return index

    def _read(self, encoded: Encoded) -> dict[str, Tensor]:
        return read(encoded, self.alignment, {key: self._parts[key][0].shape[1] for key in PARTS & self._parts.keys()})

    def _all(self, key: str) -> Tensor:
        parts = self._parts[key]
        if len(parts) > 1:
            parts[:] = [torch.cat(parts)]
        return parts[0]


def how(model: RetrievalModel) -> tuple[Alignment | None, float]:
    """What an index must know of a model: its alignment and its local weight."""
    alignment = model.alignment if isinstance(model, AligningModel) else None
    return alignment, model.local_weight if isinstance(model, TwoStageModel) else 1.0
