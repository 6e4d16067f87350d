"""An index on disk: faiss finds the first, and the tokens of those few are read from a memory-mapped file.

Asks for the extra ``scale``. faiss (Douze et al., arXiv 2401.08281) keeps vectors as they are, in cells, as codes, or
as a graph, by one string: ``"Flat"``, ``"IVF1024,PQ32"``, ``"HNSW32"``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from itr_lib.encoders.tokens import Encoded
from itr_lib.models import RetrievalModel
from itr_lib.search import alignments
from itr_lib.search.encodings import compact, expect_how, expect_question, items_in, new_ids, read, read_with_vectors
from itr_lib.search.extra import scale_package
from itr_lib.search.index import Found, how
from itr_lib.search.shortlists import best_first, reorder
from itr_lib.search.store import Store
from itr_lib.similarity import MRSW, Alignment

AT_ONCE = 2**16  # vectors that go to faiss at once
TRAIN = 2**17  # vectors, drawn at random, that cells and codes are made from


class FaissIndex:
    """What :class:`itr_lib.search.TwoStageIndex` is, in a folder, for as many items as the disk holds.

    Opening a folder again goes on with what is there. Adding is all or nothing a call, also where the program is
    killed; items whose ids are there already are passed over, so a stream can be begun again from its start.

    Args:
        folder: of the index; made where it is not there.
        side, alignment, local_weight, token_dtype: as of :class:`itr_lib.search.TwoStageIndex`.
        kind: of the first stage, as faiss's ``index_factory`` reads it. All but ``"Flat"`` may miss items.
        probes: how many cells (IVF) are looked into, or how far a walk (HNSW) looks around; None: as faiss has it.

    Raises:
        ValueError: for settings that do not fit, or a folder that holds something else or an index made otherwise.
        ImportError: where faiss is not installed.
    """

    def __init__(
        self,
        folder: str | Path,
        side: str,
        *,
        alignment: Alignment | None = MRSW,
        local_weight: float = 1.0,
        token_dtype: torch.dtype = torch.float32,
        kind: str = "Flat",
        probes: int | None = None,
    ):
        expect_how(side, alignment, local_weight, token_dtype)
        self._faiss = scale_package("faiss")
        self.side, self.alignment, self.local_weight = side, alignment, float(local_weight)
        self.token_dtype, self.kind, self.probes = token_dtype, kind, probes
        about = {"side": side, "alignment": alignment and asdict(alignment), "local_weight": self.local_weight}
        self._store = Store(folder, about | {"token_dtype": str(token_dtype)})
        self._known = set(self._store.names)
        self._first: Any = None

    @classmethod
    def for_model(cls, model: RetrievalModel, folder: str | Path, side: str, **settings) -> FaissIndex:
        """An index that ranks as ``model.scores`` does what the model's encoders return, as far as it finds it."""
        alignment, local_weight = how(model)
        return cls(folder, side, alignment=alignment, local_weight=local_weight, **settings)

    def __len__(self) -> int:
        return len(self._store.names)

    @property
    def ids(self) -> list[str]:
        """Of all items, in the order in which they were added."""
        return list(self._store.names)

    @property
    def bytes_per_item(self) -> float:
        """Bytes on disk of vectors, tokens and where each item's tokens end; ids and faiss's own are not counted."""
        return self._store.bytes / max(1, len(self))

    def add(self, ids: Sequence[str], encoded: Encoded) -> int:
        """Add the items whose ids are not there yet: all of them, or none where something is wrong.

        Returns:
            How many those were.

        Raises:
            ValueError: for an id that comes twice in a call, another number of rows, another kind or width, or NaN.
        """
        new = read_with_vectors(encoded, self.alignment, self._widths())
        ids = new_ids(ids, items_in(new))
        fresh = torch.tensor([name not in self._known for name in ids], dtype=torch.bool)
        arrays = {"whole": new["whole"][fresh]}
        if "tokens" in new:
            arrays |= compact(new["tokens"][fresh.repeat_interleave(new["sizes"])], self.token_dtype)
            ends = self._store.array("ends")[-1:] if len(self) else torch.zeros(1, dtype=torch.long)
            arrays["ends"] = ends + new["sizes"][fresh].cumsum(0)
        names = [name for name in ids if name not in self._known]
        if names:
            self._store.append(names, arrays)
            self._known.update(names)
        return len(names)

    @torch.no_grad()
    def query(
        self, encoded: Encoded, *, shortlist: int = 100, top: int = 10, local_weight: float | None = None
    ) -> Found:
        """The best items for each query, as :meth:`itr_lib.search.TwoStageIndex.query` returns them.

        A first stage that looks into too few cells can find fewer than it was asked for; in their places stand the row
        -1 and the score minus infinity, and the list of ids is shorter.

        Raises:
            ValueError: as there.
        """
        weight = self.local_weight if local_weight is None else local_weight
        expect_question(len(self), shortlist, top, weight)
        queries, top = read(encoded, self.alignment, self._widths()), min(int(top), len(self))
        shortlist = min(int(shortlist), len(self))
        values, rows = self._nearest(queries["whole"], max(top, shortlist if "tokens" in queries else 1))
        if "tokens" in queries and self.alignment is not None:
            arrays = {key: self._store.array(key) for key in ("tokens", "ends", "scales") if key in self._store.widths}
            kept = alignments.Kept(arrays["tokens"], arrays["ends"].numpy(), arrays.get("scales"))
            some = rows[:, :shortlist]
            asked = queries["tokens"], queries["sizes"]
            aligned = alignments.align(self.alignment, self.side, *asked, kept, some.clamp(min=0))
            values, rows = reorder(values, rows, aligned.where(some >= 0, 0), weight)
        names, rows = self._store.names, rows[:, :top]
        return Found([[names[row] for row in found if row >= 0] for found in rows.tolist()], rows, values[:, :top])

    def build(self) -> None:
        """Bring the first stage up to all items: trained where it must be, and kept beside them.

        The first query does it, too.
        """
        path, faiss = self._store.folder / f"{self.kind.replace(',', '_')}.faiss", self._faiss
        whole = self._store.array("whole")
        if self._first is None:
            self._first = faiss.read_index(str(path), faiss.IO_FLAG_MMAP) if path.exists() else self._trained(whole)
        before = self._first.ntotal
        if before == len(whole):
            return
        if path.exists():
            self._first = faiss.read_index(str(path))  # a mapped one cannot grow
        for some in whole[before:].split(AT_ONCE):
            self._first.add(some.numpy())
        making = path.with_suffix(".making")
        faiss.write_index(self._first, str(making))
        os.replace(making, path)

    def _trained(self, whole: Float[Tensor, "items dim"]):
        first = self._faiss.index_factory(whole.shape[1], self.kind, self._faiss.METRIC_INNER_PRODUCT)
        if not first.is_trained:
            some = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))[:TRAIN].sort().values
            first.train(whole[some].numpy())
        return first

    def _nearest(
        self, wholes: Float[Tensor, "queries dim"], count: int
    ) -> tuple[Float[Tensor, "queries count"], Int[Tensor, "queries count"]]:
        self.build()
        if self.probes is not None:
            space = self._faiss.ParameterSpace()
            space.set_index_parameter(self._first, "efSearch" if "HNSW" in self.kind else "nprobe", self.probes)
        values, rows = (torch.from_numpy(part) for part in self._first.search(wholes.numpy(), count))
        if self.kind != "Flat":  # others may hold codes, whose scores only come near
            values = self._dots(wholes, rows.clamp(min=0))
        return best_first(values.where(rows >= 0, -torch.inf), rows)

    def _dots(
        self, wholes: Float[Tensor, "queries dim"], rows: Int[Tensor, "queries count"]
    ) -> Float[Tensor, "queries count"]:
        """Scores by the vectors themselves; as many queries at once as fit the budget."""
        items, at_once = self._store.array("whole"), max(1, alignments.BUDGET // (4 * rows.shape[1] * wholes.shape[1]))
        pairs = zip(wholes.split(at_once), rows.split(at_once), strict=True)
        return torch.cat([torch.einsum("qd,qcd->qc", some, items[which]) for some, which in pairs])

    def _widths(self) -> dict[str, int]:
        return {key: self._store.widths[key] for key in ("whole", "tokens") if key in self._store.widths}
