"""An index in qdrant: in a folder, in this process, on a server, or on a cluster of them.

Asks for the extra ``scale``. TERAN's MrSw is late interaction, the MaxSim of ColBERT (Khattab and Zaharia, SIGIR 2020)
that qdrant works out itself: for each of the query's tokens the best of an item's, added up. So captions that ask for
images are answered by one request: the first by the vector ``global``, ordered anew by it plus the weighted MaxSim.

The other way round the sum goes over the *stored* caption's words, each with the best of the asking image's regions.
That is no MaxSim of the query's tokens: a sum over the regions would be another score (TERAN's MwSr). There, and for
every alignment but a sum of maxima, the shortlist's tokens are fetched and aligned here.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itr_lib.encoders.tokens import Encoded
from itr_lib.models import RetrievalModel
from itr_lib.search import alignments
from itr_lib.search.encodings import expect_how, expect_question, items_in, new_ids, read, read_with_vectors
from itr_lib.search.index import Found, how
from itr_lib.search.qdrant_engines import Asked, Client, Edge, Hit
from itr_lib.similarity import MRSW, Alignment

NAMES = uuid.UUID("5a3ef0a4-2b7e-4a0c-9c0e-3d8f2f6a1c55")  # qdrant's ids are numbers or UUIDs: each name gets one
PARTS = {"global": "whole", "tokens": "tokens"}  # qdrant's names of vectors, and ours


class QdrantIndex:
    """What :class:`itr_lib.search.TwoStageIndex` is, in a collection of qdrant.

    A collection that is there already is gone on with. Items whose ids are there are passed over, so a stream can be
    begun again from its start. How items are aligned is not kept in it: make the index for the same model each time.

    Args:
        location: ``":memory:"``, a URL, or a folder for qdrant's Python copy of a server, which is meant for up to some
            20,000 items; ``"edge:FOLDER"``: the server's engine in this process.
        side, alignment, local_weight: as of :class:`itr_lib.search.TwoStageIndex`.
        collection: its name there.
        exact: the first stage looks at every vector; False: it walks qdrant's graph where there is one. The Python copy
            always looks at all.
        vectors: more of qdrant's ``VectorParams`` for both vectors: ``{"on_disk": True}``, ``{"datatype": "float16"}``,
            ``{"quantization_config": ...}``.
        collection_settings: more for ``create_collection``: ``shard_number``, ``replication_factor``,
            ``write_consistency_factor``; of no effect in a process alone.
        client_settings: more for ``QdrantClient``: ``api_key``, ``timeout``.

    Raises:
        ValueError: for settings that do not fit.
        ImportError: where qdrant's package is not installed.
    """

    def __init__(
        self,
        location: str | Path,
        side: str,
        *,
        alignment: Alignment | None = MRSW,
        local_weight: float = 1.0,
        collection: str = "items",
        exact: bool = True,
        vectors: dict[str, Any] | None = None,
        collection_settings: dict[str, Any] | None = None,
        client_settings: dict[str, Any] | None = None,
    ):
        expect_how(side, alignment, local_weight, torch.float32)
        self.side, self.alignment, self.local_weight = side, alignment, float(local_weight)
        text, vectors = str(location), vectors or {}
        if text.startswith("edge:"):
            self._engine: Client | Edge = Edge(text.removeprefix("edge:"), exact, vectors)
        else:
            where = {"location": text} if text == ":memory:" or "://" in text else {"path": text}
            settings = (where | (client_settings or {}), collection, exact, vectors)
            self._engine = Client(*settings, **(collection_settings or {}))
        self._widths = {PARTS[name]: width for name, width in self._engine.widths().items()}

    @classmethod
    def for_model(cls, model: RetrievalModel, location: str | Path, side: str, **settings) -> QdrantIndex:
        """An index that ranks as ``model.scores`` does what the model's encoders return, as far as it finds it."""
        alignment, local_weight = how(model)
        return cls(location, side, alignment=alignment, local_weight=local_weight, **settings)

    def __len__(self) -> int:
        return self._engine.count() if self._widths else 0

    @property
    def maxsim(self) -> bool:
        """Whether the second stage is qdrant's: a sum over the query's tokens of the best of the item's."""
        stored = "regions" if self.side == "images" else "words"
        return self.alignment is not None and (
            self.alignment.attend,
            self.alignment.coding,
            self.alignment.pooling,
        ) == (
            stored,
            "hard",
            "sum",
        )

    def add(self, ids: Sequence[str], encoded: Encoded, payloads: Sequence[dict[str, Any]] | None = None) -> int:
        """Add the items whose ids are not there yet.

        Args:
            ids: n names, all different.
            encoded: as of :meth:`itr_lib.search.TwoStageIndex.add`, with a vector each.
            payloads: n dictionaries to filter by; ``"id"`` and ``"row"`` are the index's own.

        Returns:
            How many were added.

        Raises:
            ValueError: for an id that comes twice in a call, another number of rows, another kind or width, or NaN.
        """
        new = read_with_vectors(encoded, self.alignment, self._widths)
        names = new_ids(ids, items_in(new))
        if payloads is not None and len(payloads) != len(names):
            raise ValueError(f"payloads holds {len(payloads)} dictionaries, expected {len(names)}: one for each id")
        if not names:
            return 0
        if not self._widths:
            widths = {part: new[part].shape[1] for part in PARTS.values() if part in new}
            self._engine.create({name: widths[part] for name, part in PARTS.items() if part in widths})
            self._widths = widths
        points = [str(uuid.uuid5(NAMES, name)) for name in names]
        known, row = self._engine.known(points), len(self)
        fresh = [i for i, point in enumerate(points) if point not in known]
        tokens = self._tokens(new)
        written = []
        for place, i in enumerate(fresh, start=row):
            vectors = {"global": new["whole"][i].tolist()} | ({"tokens": tokens[i]} if tokens[i] else {})
            about = (payloads[i] if payloads is not None else {}) | {"id": names[i], "row": place}
            written.append((points[i], vectors, about))
        if written:
            self._engine.upsert(written)
        return len(written)

    @torch.no_grad()
    def query(
        self,
        encoded: Encoded,
        *,
        shortlist: int = 100,
        top: int = 10,
        local_weight: float | None = None,
        filter: Any = None,
    ) -> Found:
        """The best items for each query, as :meth:`itr_lib.search.TwoStageIndex.query` returns them.

        Args:
            filter: a ``Filter`` of qdrant's models (of ``qdrant_edge`` in process) on payloads. It holds in the first
                stage, so that a shortlist is full of items that pass. Where fewer than ``top`` do, in the places of the
                others stand the row -1 and the score minus infinity, and the list of ids is shorter.

        Raises:
            ValueError: as there.
        """
        weight = self.local_weight if local_weight is None else float(local_weight)
        count = len(self)
        expect_question(count, shortlist, top, weight)
        queries, top, shortlist = (
            read(encoded, self.alignment, self._widths),
            min(int(top), count),
            min(shortlist, count),
        )
        tokens = self._tokens(queries)
        asked = [Asked(*one, filter) for one in zip(queries["whole"].tolist(), tokens, strict=True)]
        if not asked:
            return Found([], torch.empty(0, top, dtype=torch.long), torch.empty(0, top))
        if "tokens" not in queries:
            found = self._engine.nearest(asked, top, tokens=False)
        elif self.maxsim:
            found = self._by_maxsim(asked, int(shortlist), top, weight)
        else:
            found = self._aligned_here(queries, asked, int(shortlist), top, weight)
        return _as_found(found, top)

    def close(self) -> None:
        """Let go of files and connections."""
        self._engine.close()

    def _by_maxsim(self, asked: list[Asked], shortlist: int, top: int, weight: float) -> list[list[Hit]]:
        """One request a query; where more is wanted than the shortlist, the rest by the first stage alone."""
        wordy = [i for i, one in enumerate(asked) if one.tokens]  # qdrant refuses a query without a token
        limit = shortlist if top > shortlist else top
        plain = top > shortlist or len(wordy) < len(asked)
        found = self._engine.nearest(asked, top, tokens=False) if plain else [[] for _ in asked]
        for i, hits in zip(
            wordy,
            self._engine.two_stages([asked[i] for i in wordy], shortlist, limit, weight) if wordy else [],
            strict=True,
        ):
            there = {hit.id for hit in hits}
            found[i] = _best_first(hits) + [hit for hit in found[i] if hit.id not in there and top > shortlist]
        return found

    def _aligned_here(
        self, queries: dict[str, Tensor], asked: list[Asked], shortlist: int, top: int, weight: float
    ) -> list[list[Hit]]:
        """The tokens of all shortlists come from qdrant, and their scores from :func:`alignments.align`."""
        assert self.alignment is not None
        found = [_best_first(hits) for hits in self._engine.nearest(asked, max(top, shortlist), tokens=True)]
        lists = [hits[:shortlist] for hits in found]
        some = [hit.tokens for hits in lists for hit in hits]
        flat = torch.tensor([token for tokens in some for token in tokens]).view(-1, queries["tokens"].shape[1])
        kept = alignments.Kept(flat, np.array(list(accumulate(map(len, some)))))
        each = queries["tokens"].split(queries["sizes"].tolist())
        for i, (start, tokens) in enumerate(zip(accumulate(map(len, lists), initial=0), each, strict=False)):
            rows = torch.arange(start, start + len(lists[i]))[None]
            size = queries["sizes"][i : i + 1]
            local = alignments.align(self.alignment, self.side, tokens, size, kept, rows)[0].tolist()
            again = [hit._replace(score=hit.score + weight * more) for hit, more in zip(lists[i], local, strict=True)]
            found[i] = _best_first(again) + found[i][shortlist:]
        return found

    @staticmethod
    def _tokens(parts: dict[str, Tensor]) -> list[list[list[float]]]:
        """A list of vectors an item."""
        if "tokens" not in parts:
            return [[] for _ in range(items_in(parts))]
        return [some.tolist() for some in parts["tokens"].split(parts["sizes"].tolist())]


def _best_first(hits: list[Hit]) -> list[Hit]:
    return sorted(hits, key=lambda hit: (-hit.score, hit.row))


def _as_found(found: list[list[Hit]], top: int) -> Found:
    found = [hits[:top] for hits in found]
    rows, scores = torch.full((len(found), top), -1), torch.full((len(found), top), -torch.inf)
    for i, hits in enumerate(found):
        rows[i, : len(hits)] = torch.tensor([hit.row for hit in hits], dtype=torch.long)
        scores[i, : len(hits)] = torch.tensor([hit.score for hit in hits])
    return Found([[hit.id for hit in hits] for hits in found], rows, scores)
