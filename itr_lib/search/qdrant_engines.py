"""What a qdrant index asks of qdrant, in the words of its client and of its engine in process.

A client speaks to a server, to a cluster, or to a plain Python copy of one (a path, ``:memory:``). The engine in
process, ``qdrant-edge-py``, is the server's own search on one shard in a folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from itr_lib.search.extra import scale_package

AT_ONCE = 200  # items in one message to a server, which takes 32 MB


class Hit(NamedTuple):
    """An item that was found; its tokens where they were asked for."""

    id: str
    row: int
    score: float
    tokens: list[list[float]]


class Asked(NamedTuple):
    """A query: its unit vector, its tokens (none: one stage), and qdrant's filter of payloads."""

    whole: list[float]
    tokens: list[list[float]]
    filter: Any


class Client:
    """A collection behind ``qdrant_client.QdrantClient(**where)``; ``settings`` go to ``create_collection``."""

    def __init__(self, where: dict[str, Any], collection: str, exact: bool, vectors: dict[str, Any], **settings):
        package = scale_package("qdrant_client")
        self._models, self._client = package.models, package.QdrantClient(**where)
        self._name, self._vectors, self._settings = collection, vectors, settings
        # The Python copy always looks at all, and warns that it does.
        self._params = self._models.SearchParams(exact=exact) if "://" in where.get("location", "") else None

    def widths(self) -> dict[str, int]:
        """Of the collection's vectors; empty where there is none yet."""
        if not self._client.collection_exists(self._name):
            return {}
        params = self._client.get_collection(self._name).config.params.vectors
        return {name: vector.size for name, vector in params.items()}

    def create(self, widths: dict[str, int]) -> None:
        """Make the collection: a vector ``global``, and beside it many of ``tokens``, which no graph is made of."""
        models = self._models
        many = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
        more = {"global": {}, "tokens": {"multivector_config": many, "hnsw_config": models.HnswConfigDiff(m=0)}}
        dot = models.Distance.DOT
        vectors = {
            name: models.VectorParams(size=width, distance=dot, **more[name], **self._vectors)
            for name, width in widths.items()
        }
        self._client.create_collection(self._name, vectors_config=vectors, **self._settings)

    def count(self) -> int:
        """How many items there are."""
        return self._client.count(self._name, exact=True).count

    def known(self, points: list[str]) -> set[str]:
        """Which of these points are there."""
        found = self._client.retrieve(self._name, points, with_payload=False)
        return {str(point.id) for point in found}

    def upsert(self, points: list[tuple[str, dict, dict]]) -> None:
        """Write points (id, vectors, payload), and wait until they are written."""
        made = [self._models.PointStruct(id=point, vector=vectors, payload=about) for point, vectors, about in points]
        for start in range(0, len(made), AT_ONCE):
            self._client.upsert(self._name, made[start : start + AT_ONCE], wait=True)

    def nearest(self, asked: Sequence[Asked], limit: int, tokens: bool) -> list[list[Hit]]:
        """The first items of each query by their vectors."""
        kinds = ["tokens"] if tokens else False
        common = {"using": "global", "limit": limit, "params": self._params, "with_payload": True, "with_vector": kinds}
        return self._ask([self._models.QueryRequest(query=one.whole, filter=one.filter, **common) for one in asked])

    def two_stages(self, asked: Sequence[Asked], shortlist: int, limit: int, weight: float) -> list[list[Hit]]:
        """The first of each shortlist by global + weight * MaxSim, worked out where the items are."""
        models = self._models
        local = models.MultExpression(mult=[weight, "$score[1]"])
        formula = models.SumExpression(sum=["$score[0]", local])
        sum_of_both = models.FormulaQuery(formula=formula, defaults={"$score[1]": 0.0})  # for items without a token
        requests = []
        for whole, tokens, filter in asked:
            first = models.Prefetch(query=whole, using="global", limit=shortlist, filter=filter, params=self._params)
            second = models.Prefetch(prefetch=[first], query=tokens, using="tokens", limit=shortlist)
            both = [first, second]
            requests.append(models.QueryRequest(prefetch=both, query=sum_of_both, limit=limit, with_payload=True))
        return self._ask(requests)

    def _ask(self, requests: list) -> list[list[Hit]]:
        return [_hits(answer.points) for answer in self._client.query_batch_points(self._name, requests)]

    def close(self) -> None:
        """Let go of files and connections."""
        self._client.close()


class Edge:
    """A shard in a folder of its own, searched in this process."""

    def __init__(self, folder: str | Path, exact: bool, vectors: dict[str, Any]):
        self._edge, self._folder, self._vectors = scale_package("qdrant_edge"), Path(folder).expanduser(), vectors
        self._params = self._edge.SearchParams(exact=exact)
        self._shard: Any = self._edge.EdgeShard.load(str(self._folder)) if self._config().exists() else None

    def _config(self) -> Path:
        return self._folder / "edge_config.json"

    def widths(self) -> dict[str, int]:
        """As :meth:`Client.widths`."""
        if self._shard is None:
            return {}
        vectors = json.loads(self._config().read_text())["vectors"]
        return {name: vector["size"] for name, vector in vectors.items()}

    def create(self, widths: dict[str, int]) -> None:
        """As :meth:`Client.create`."""
        edge = self._edge
        many = {"multivector_config": edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim)}
        more = {
            "global": {},
            "tokens": many | {"hnsw_config": edge.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000)},
        }
        vectors = {
            name: edge.EdgeVectorParams(size=width, distance=edge.Distance.Dot, **more[name], **self._vectors)
            for name, width in widths.items()
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        self._shard = edge.EdgeShard.create(str(self._folder), edge.EdgeConfig(vectors=vectors))

    def count(self) -> int:
        """As :meth:`Client.count`."""
        return self._shard.count(self._edge.CountRequest(exact=True))

    def known(self, points: list[str]) -> set[str]:
        """As :meth:`Client.known`."""
        return {str(point.id) for point in self._shard.retrieve(points, with_payload=False, with_vector=False)}

    def upsert(self, points: list[tuple[str, dict, dict]]) -> None:
        """As :meth:`Client.upsert`."""
        made = [self._edge.Point(*point) for point in points]
        self._shard.update(self._edge.UpdateOperation.upsert_points(made))

    def nearest(self, asked: Sequence[Asked], limit: int, tokens: bool) -> list[list[Hit]]:
        """As :meth:`Client.nearest`."""
        common = {"limit": limit, "params": self._params, "with_payload": True}
        common["with_vector"] = ["tokens"] if tokens else False
        near = self._edge.Query.Nearest
        requests = [(near(one.whole, using="global"), one.filter) for one in asked]
        return self._ask([self._edge.QueryRequest(query=query, filter=some, **common) for query, some in requests])

    def two_stages(self, asked: Sequence[Asked], shortlist: int, limit: int, weight: float) -> list[list[Hit]]:
        """As :meth:`Client.two_stages`."""
        edge, term = self._edge, self._edge.Expression
        local = term.Mult([term.Constant(weight), term.Variable("$score[1]")])
        formula = edge.Formula(term.Sum([term.Variable("$score[0]"), local]), defaults={"$score[1]": 0.0})
        requests = []
        for whole, tokens, filter in asked:
            near, best = edge.Query.Nearest(whole, using="global"), edge.Query.Nearest(tokens, using="tokens")
            first = edge.Prefetch(limit=shortlist, query=near, filter=filter, params=self._params)
            both = [first, edge.Prefetch(limit=shortlist, prefetches=[first], query=best)]
            requests.append(edge.QueryRequest(limit=limit, query=formula, prefetches=both, with_payload=True))
        return self._ask(requests)

    def _ask(self, requests: list) -> list[list[Hit]]:
        answers = self._shard.query_batch(self._edge.QueryBatchRequest(requests))
        return [_hits(points) for points in answers]

    def close(self) -> None:
        """Let go of the folder."""
        if self._shard is not None:
            self._shard.close()


def _hits(points: Sequence[Any]) -> list[Hit]:
    return [
        Hit(point.payload["id"], point.payload["row"], point.score, (point.vector or {}).get("tokens") or [])
        for point in points
    ]
