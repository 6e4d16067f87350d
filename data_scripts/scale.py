"""One made collection in every home of an index: equal answers, queries a second, recall, bytes an item, in one run.

python -m data_scripts.scale                          # 100,000 items, 200 queries; asks for the extra scale
python -m data_scripts.scale --million --folder DISK  # a million items on disk: resident memory, time, recall

Recall is the share of the first ten that the index in memory finds. Times are of this machine, and of calls of
``--batch`` queries, the best of ``--repeats``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import psutil
import torch

from itr_lib.encoders.tokens import GlobalTokens
from itr_lib.search import Found, TwoStageIndex
from itr_lib.search.faiss import TRAIN, FaissIndex
from itr_lib.search.qdrant import QdrantIndex
from itr_lib.similarity import l2_normalise

SHORTLIST, TOP, TOPICS = 100, 10, 1000
CHUNK = 1000  # items made and added at once
WORDS = 12


def made(start: int, count: int, dim: int, tokens: int, blur: float = 1.0) -> GlobalTokens:
    """Items ``start`` to ``start + count`` of an endless collection: topics, blurred, as nearby pictures are."""
    topics = torch.randn(TOPICS, dim, generator=torch.Generator().manual_seed(0))
    g = torch.Generator().manual_seed(start + 1)
    topic = topics[torch.randint(TOPICS, (count,), generator=g)]
    whole = topic + blur * torch.randn(count, dim, generator=g)
    vectors = l2_normalise(whole[:, None] + 2 * torch.randn(count, tokens, dim, generator=g))
    return GlobalTokens(l2_normalise(whole), vectors, torch.ones(count, tokens, dtype=torch.bool))


def chunks(options: argparse.Namespace, begin: int = 0) -> Iterator[tuple[list[str], GlobalTokens]]:
    """The collection, a thousand items at a time."""
    for start in range(begin, options.items, CHUNK):
        count = min(CHUNK, options.items - start)
        yield [str(row) for row in range(start, start + count)], made(start, count, options.dim, options.tokens)


def asked(options: argparse.Namespace) -> GlobalTokens:
    """Queries from beyond the collection's end."""
    return made(10**9, options.queries, options.dim, WORDS)


def filled(index, options: argparse.Namespace):
    """The index with all items in it and its first stage made, and the seconds that took."""
    began = perf_counter()
    for ids, items in chunks(options, len(index) // CHUNK * CHUNK):
        index.add(ids, items)
    if isinstance(index, FaissIndex):
        index.build()  # which the first query would do
    return index, perf_counter() - began


def timed(query: Callable[[GlobalTokens], Found], queries: GlobalTokens, options: argparse.Namespace, repeats: int):
    """All answers, and the seconds of a query: the best of some repeats of each call."""
    seconds, ids = 0.0, []
    for start in range(0, len(queries.whole), options.batch):
        some = GlobalTokens(*(part[start : start + options.batch] for part in queries))
        best = np.inf
        for _ in range(repeats):
            began = perf_counter()
            found = query(some)
            best = min(best, perf_counter() - began)
        seconds, ids = seconds + best, ids + found.ids
    return ids, seconds / len(queries.whole)


def table(options: argparse.Namespace, folder: Path) -> None:
    """Every home, and one line for each way to ask it."""
    queries = asked(options)
    size = f"{options.items:,} items x {options.tokens} tokens, {options.dim} numbers"
    print(f"{size}; {options.queries} queries x {WORDS}, {options.batch} a call; K = {SHORTLIST}")
    print(f"{'home':34s} {'queries/s':>10s} {'recall@10':>10s} {'same ids':>9s} {'bytes/item':>11s} {'filled in':>10s}")
    memory, seconds = filled(TwoStageIndex("images"), options)
    expected, cost = timed(lambda q: memory.query(q, shortlist=SHORTLIST), queries, options, options.repeats)
    line("in memory", expected, expected, cost, memory.bytes_per_item, seconds)
    del memory
    for kind in (torch.float16, torch.bfloat16, torch.int8):
        rounded, seconds = filled(TwoStageIndex("images", token_dtype=kind), options)
        ids, cost = timed(
            lambda q, index=rounded: index.query(q, shortlist=SHORTLIST), queries, options, options.repeats
        )
        line(f"in memory, {str(kind).removeprefix('torch.')}", ids, expected, cost, rounded.bytes_per_item, seconds)
    for name, opened in homes(folder, options).items():
        index, seconds = filled(opened(), options)
        ids, cost = timed(lambda q, index=index: index.query(q, shortlist=SHORTLIST), queries, options, options.repeats)
        line(name, ids, expected, cost, on_disk(folder / name) / options.items, seconds)
        if name == "qdrant-edge":
            few = GlobalTokens(*(part[:: max(1, len(part) // 10)] for part in queries))
            _, every = timed(lambda q, index=index: index.query(q, shortlist=len(index)), few, options, 1)
            print(
                f"    every item's MaxSim: {every:.2f} s a query, {every / cost:.0f} times as long as prefetch + MaxSim"
            )
        if isinstance(index, QdrantIndex):
            index.close()


def homes(folder: Path, options: argparse.Namespace) -> dict[str, Callable[[], FaissIndex | QdrantIndex]]:
    """Ways to open an index that is not in memory."""
    probes = {"Flat": None, "HNSW32": 128, f"{cells(options.items)},PQ16": 32}
    ways = {
        f"faiss, {kind}": partial(FaissIndex, folder / f"faiss, {kind}", "images", kind=kind, probes=some)
        for kind, some in probes.items()
    }
    ways["qdrant-edge"] = partial(QdrantIndex, f"edge:{folder / 'qdrant-edge'}", "images")
    return ways | ({"qdrant, Python copy": partial(QdrantIndex, ":memory:", "images")} if options.local else {})


def cells(items: int) -> str:
    """As many cells as are usual for so many items, each made from 39 items or more as faiss asks."""
    return f"IVF{max(1, min(int(4 * items**0.5), min(items, TRAIN) // 39))}"


def line(name: str, ids: list, expected: list, cost: float, size: float, seconds: float) -> None:
    """A row of the table."""
    found, same = recall(ids, expected), np.mean([a == b for a, b in zip(ids, expected, strict=True)])
    print(f"{name:34s} {1 / cost:10.1f} {found:10.3f} {same:9.3f} {size:11,.0f} {seconds:8.0f} s", flush=True)


def recall(ids: list, expected: list) -> float:
    """Of the expected items, the share that was found."""
    return float(np.mean([len({*a} & {*b}) / max(1, len(b)) for a, b in zip(ids, expected, strict=True)]))


def on_disk(folder: Path) -> int:
    """Bytes of all files below, as the disk counts them; 0 where there is no such folder."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def million(options: argparse.Namespace, folder: Path) -> None:
    """Tokens of 8 bits on disk, a first stage in cells: what a process keeps in memory, and the time of a query."""
    kind = f"{cells(options.items)},SQ8"  # 128 bytes an item, and no codebooks to be learnt
    index = FaissIndex(folder / "million", "images", token_dtype=torch.int8, kind=kind, probes=16)
    print(f"{len(index):,} of {options.items:,} items are there")
    index, seconds = filled(index, options)
    print(f"added, and {kind} made, in {seconds:.0f} s; {index.bytes_per_item:,.0f} bytes an item", flush=True)
    index = FaissIndex(folder / "million", "images", token_dtype=torch.int8, kind=kind, probes=16)
    options.batch = 1
    ids, cost = timed(lambda q: index.query(q, shortlist=SHORTLIST), asked(options), options, options.repeats)
    resident = psutil.Process().memory_info().rss / 2**30
    print(f"{1e3 * cost:.1f} ms a query, one by one; {resident:.2f} GiB resident, mapped files included", flush=True)
    every = FaissIndex(folder / "million", "images", token_dtype=torch.int8)  # the same tokens, and a scan before them
    expected, cost = timed(lambda q: every.query(q, shortlist=SHORTLIST), asked(options), options, 1)
    print(f"recall@10 {recall(ids, expected):.3f} of a scan of all vectors, which takes {1e3 * cost:.1f} ms a query")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, or the lines of a million."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, help="100,000, or with --million a million")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--batch", type=int, default=20, help="queries a call (%(default)s)")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where indexes are kept; by default a temporary folder")
    parser.add_argument("--local", action="store_true", help="qdrant's Python copy, too: slow beyond 20,000 items")
    parser.add_argument("--million", action="store_true", help="a large index on disk instead of the table")
    options = parser.parse_args(arguments)
    options.items = options.items or (10**6 if options.million else 10**5)
    if min(options.items, options.queries, options.batch, options.dim, options.tokens, options.repeats) < 1:
        parser.error("numbers must be at least 1")
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as spare:
        folder = options.folder or Path(spare)
        try:
            (million if options.million else table)(options, folder)
        except ImportError as error:
            parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
