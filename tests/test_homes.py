"""The homes of an index against the one in memory; those of the extra ``scale`` are skipped where it is missing."""

from __future__ import annotations

import importlib.util
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from itr_lib.encoders.tokens import GlobalTokens, Tokens
from itr_lib.search import TwoStageIndex
from itr_lib.search.faiss import FaissIndex
from itr_lib.search.qdrant import QdrantIndex
from itr_lib.search.store import Store
from itr_lib.similarity import TERAN_POOLING, Alignment, l2_normalise

SIDES = ("images", "captions")
PACKAGES = {"qdrant": "qdrant_client", "edge": "qdrant_edge", "faiss": "faiss"}
HOMES = [
    pytest.param(
        home,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(package) is None, reason=f"{package} of the extra scale is not installed"
        ),
    )
    for home, package in PACKAGES.items()
]
needs_faiss = HOMES[2].marks[0]


def opened(home, folder, side="images", **how):
    if home == "faiss":
        return FaissIndex(folder / "faiss", side, **how)
    return QdrantIndex(":memory:" if home == "qdrant" else f"edge:{folder / 'edge'}", side, **how)


def encodings(count, width=5, dim=8, seed=0) -> GlobalTokens:
    """Variable numbers of tokens, of the second and the last item none."""
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(count, width, generator=g) < 0.6
    mask[1:2] = mask[-1:] = False
    vectors = l2_normalise(torch.randn(count, width, dim, generator=g)).masked_fill(~mask[..., None], torch.nan)
    return GlobalTokens(torch.randn(count, 6, generator=g), vectors, mask)


def some(encoded, rows):
    return encoded[rows] if isinstance(encoded, torch.Tensor) else type(encoded)(*(part[rows] for part in encoded))


def names(count):
    return [f"ü {row}.jpg" for row in range(count)]


def same(found, expected):
    assert found.ids == expected.ids
    assert torch.equal(found.rows, expected.rows)
    assert torch.allclose(found.scores, expected.scores, rtol=0, atol=1e-5)


@pytest.mark.parametrize("how", TERAN_POOLING)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("home", HOMES)
def test_every_home_finds_the_same_with_the_same_scores(home, side, how, tmp_path):
    settings = {"alignment": Alignment(**TERAN_POOLING[how]), "local_weight": 0.7}
    items, queries = encodings(40, seed=1), encodings(7, 4, seed=2)
    memory, index = TwoStageIndex(side, **settings), opened(home, tmp_path, side, **settings)
    memory.add(names(40), items)
    for start, stop in ((0, 0), (0, 25), (25, 40)):
        assert index.add(names(40)[start:stop], some(items, slice(start, stop))) == stop - start
    assert len(index) == 40
    for shortlist, top, weight in itertools.product((1, 12, 60), (1, 10, 50), (None, -0.5)):
        asked = {"shortlist": shortlist, "top": top, "local_weight": weight}
        same(index.query(queries, **asked), memory.query(queries, **asked))
    assert index.query(some(queries, slice(0, 0)), top=3).rows.shape == (0, 3)


def test_images_that_ask_captions_are_no_maxsim():
    """By hand: the caption's one word has its best region at 0.96; MaxSim of the regions would add up to 2.36."""
    pytest.importorskip("qdrant_client", reason="of the extra scale")
    regions, words = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]]), torch.tensor([[[0.8, 0.6]]])
    image, caption = (
        GlobalTokens(torch.ones(1, 1), v, torch.ones(v.shape[:2], dtype=torch.bool)) for v in (regions, words)
    )
    for side, item, query in (("images", image, caption), ("captions", caption, image)):
        index = QdrantIndex(":memory:", side)
        index.add(["it"], item)
        assert index.maxsim == (side == "images")
        assert index.query(query).scores.item() == pytest.approx(1.96)
    assert QdrantIndex(":memory:", "captions", alignment=Alignment(attend="words")).maxsim


@pytest.mark.parametrize("home", HOMES)
def test_vectors_alone_have_one_stage(home, tmp_path):
    items, queries = encodings(30, seed=3).whole, encodings(4, seed=4).whole
    memory, index = TwoStageIndex("captions"), opened(home, tmp_path, "captions")
    for which in (memory, index):
        which.add(names(30), items)
    same(index.query(queries, shortlist=2, top=9), memory.query(queries, shortlist=2, top=9))
    with pytest.raises(ValueError, match=r"expected a vector each as the items .* have: give encoded\.whole"):
        index.query(encodings(4))


@pytest.mark.parametrize("home", ["edge", "faiss"])
def test_an_index_that_is_opened_again_goes_on(home, tmp_path):
    pytest.importorskip(PACKAGES[home], reason="of the extra scale")
    items, queries = encodings(30, seed=5), encodings(4, seed=6)
    first = opened(home, tmp_path)
    first.add(names(20), some(items, slice(0, 20)))
    first.query(queries)
    if home == "edge":
        first.close()
    again, memory = opened(home, tmp_path), TwoStageIndex("images")
    assert len(again) == 20
    assert again.add(names(30), items) == 10, "what is there already is passed over"
    assert again.add(names(30), items) == 0 and len(again) == 30
    memory.add(names(30), items)
    same(again.query(queries, top=30), memory.query(queries, top=30))


BAD = {
    "an id twice": lambda index: index.add(["x", "x"], encodings(2)),
    "too few ids": lambda index: index.add(["x"], encodings(2)),
    "ids that are a string": lambda index: index.add("xy", encodings(2)),
    "another width": lambda index: index.add(["x", "y"], encodings(2)._replace(whole=torch.ones(2, 7))),
    "other tokens": lambda index: index.query(encodings(2, dim=9)),
    "vectors alone": lambda index: index.query(encodings(2).whole),
    "tokens alone": lambda index: index.query(Tokens(*encodings(2)[1:])),
    "NaN": lambda index: index.query(encodings(2)._replace(whole=torch.full((2, 6), torch.nan))),
    "a list": lambda index: index.add(["x"], [[1.0]]),
    "no shortlist": lambda index: index.query(encodings(2), shortlist=0),
    "half an item": lambda index: index.query(encodings(2), top=2.5),
    "no weight": lambda index: index.query(encodings(2), local_weight=torch.nan),
}


@pytest.mark.parametrize("home", HOMES)
def test_bad_input_meets_the_sentence_of_the_index_in_memory(home, tmp_path):
    index, memory = opened(home, tmp_path), TwoStageIndex("images")
    with pytest.raises(ValueError, match="the index is empty: add items"):
        index.query(encodings(2))
    for which in (index, memory):
        which.add(names(5), encodings(5))
    for what, call in BAD.items():
        said = []
        for which in (index, memory):
            with pytest.raises(ValueError) as caught:
                call(which)
            said.append(str(caught.value))
        assert said[0] == said[1], what
    assert len(index) == 5
    with pytest.raises(ValueError, match="a first stage"):
        opened(home, tmp_path / "other").add(["x", "y"], encodings(2).tokens)
    with pytest.raises(ValueError, match="side is 'image'"):
        opened(home, tmp_path / "third", "image")


# --- qdrant ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("home", HOMES[:2])
def test_a_filter_holds_in_the_first_stage(home, tmp_path):
    """A shortlist of 3 is three items that pass; filtered after the search, most would be gone."""
    items, queries = encodings(40, seed=7), encodings(5, seed=8)
    index = opened(home, tmp_path)
    index.add(names(40), items, [{"kind": "odd" if row % 2 else "even"} for row in range(40)])
    models = importlib.import_module("qdrant_client.models" if home == "qdrant" else "qdrant_edge")
    key = {"key": "kind", "match": models.MatchValue(value="odd")}
    only = models.Filter(must=[models.FieldCondition(**key)])
    found = index.query(queries, shortlist=3, top=3, filter=only)
    memory = TwoStageIndex("images")
    memory.add(names(40)[1::2], some(items, slice(1, None, 2)))
    assert found.ids == memory.query(queries, shortlist=3, top=3).ids
    none = index.query(queries, top=30, filter=only)
    assert [len(ids) for ids in none.ids] == [20] * 5 and (none.rows[:, 20:] == -1).all()
    with pytest.raises(ValueError, match="payloads holds 1 dictionaries, expected 2"):
        index.add(["x", "y"], encodings(2), [{}])


# --- faiss -----------------------------------------------------------------------------------------------------------


@needs_faiss
@pytest.mark.parametrize(("kind", "few", "many"), [("IVF16,PQ3", 1, 16), ("HNSW8", 2, 300)])
def test_first_stages_that_may_miss_find_more_where_they_look_longer(kind, few, many, tmp_path):
    items, queries = encodings(2000, seed=9), encodings(30, seed=10)
    memory = TwoStageIndex("images")
    memory.add(names(2000), items)
    expected = memory.query(queries, shortlist=200).ids
    recalls = []
    for probes in (few, many):
        index = FaissIndex(tmp_path, "images", kind=kind, probes=probes)
        index.add(names(2000), items)
        found = index.query(queries, shortlist=200).ids
        recalls.append(np.mean([len({*a} & {*b}) / 10 for a, b in zip(found, expected, strict=True)]))
    assert recalls[0] < recalls[1] and recalls[1] > 0.9


@needs_faiss
@pytest.mark.parametrize(("kind", "probes"), [("PQ3", None), ("IVF16,SQ4", 16)])
def test_codes_choose_a_shortlist_and_the_vectors_score_it(kind, probes, tmp_path):
    items, queries = encodings(2000, seed=9), encodings(30, seed=10)
    memory, index = TwoStageIndex("images"), FaissIndex(tmp_path, "images", kind=kind, probes=probes)
    for which in (memory, index):
        which.add(names(2000), items)
    same(index.query(queries, shortlist=2000, top=50), memory.query(queries, shortlist=2000, top=50))
    found = index.query(queries, shortlist=1, top=50, local_weight=0.0)
    whole = l2_normalise(items.whole)[found.rows]
    assert torch.allclose(found.scores, torch.einsum("qd,qkd->qk", l2_normalise(queries.whole), whole), atol=1e-6)


@needs_faiss
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.int8])
def test_tokens_on_disk_score_as_those_in_memory(kind, tmp_path):
    items, queries = encodings(30, seed=11), encodings(4, seed=12)
    memory, index = TwoStageIndex("images", token_dtype=kind), FaissIndex(tmp_path, "images", token_dtype=kind)
    for which in (memory, index):
        which.add(names(30), items)
    same(index.query(queries, top=30), memory.query(queries, top=30))
    assert index.bytes_per_item == memory.bytes_per_item
    with pytest.raises(ValueError, match="holds an index with .* expected .*: make the index again"):
        FaissIndex(tmp_path, "captions", token_dtype=kind)


# --- the store -------------------------------------------------------------------------------------------------------

ADDING = """
import sys, torch
from itr_lib.search.store import Store
store = Store(sys.argv[1], {})
print("ready", flush=True)
for start in range(len(store.names), 4000, 5):
    rows = torch.arange(start, start + 5)
    store.append([str(row) for row in rows.tolist()], {"whole": rows[:, None].float().expand(-1, 64), "ends": rows})
"""


def test_a_store_that_is_killed_while_it_grows_goes_on_with_what_counts(tmp_path):
    """Four kills between ready and done; each time all arrays have as many rows as there are names."""
    rng, counts = np.random.default_rng(0), []
    for _ in range(4):
        run = subprocess.Popen([sys.executable, "-c", ADDING, str(tmp_path / "store")], stdout=subprocess.PIPE)
        assert run.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0.02, 0.2))
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        store = Store(tmp_path / "store", {})
        counts.append(len(store.names))
        assert store.names == [str(row) for row in range(counts[-1])]
        if counts[-1]:
            assert store.array("ends").tolist() == list(range(counts[-1]))
            assert torch.equal(store.array("whole")[:, 0], torch.arange(counts[-1]).float())
    assert counts == sorted(counts) and counts[-1] > counts[0]


FILLING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_homes import encodings, names, opened, some
index, items = opened(sys.argv[2], Path(sys.argv[3])), encodings(3000)
for start in range(len(index), 3000, 10):
    index.add(names(3000)[start : start + 10], some(items, slice(start, start + 10)))
    print("added", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("home", ["edge", "faiss"])
def test_an_index_that_is_killed_ten_times_loses_and_doubles_nothing(home, tmp_path):
    """Ten programs that import the library and fill an index; the unit of a kill is a call of ten items."""
    pytest.importorskip(PACKAGES[home], reason="of the extra scale")
    rng, items, queries = np.random.default_rng(0), encodings(3000), encodings(5, seed=1)
    for _ in range(10):
        command = [sys.executable, "-c", FILLING, str(Path(__file__).parent), home, str(tmp_path)]
        run = subprocess.Popen(command, stdout=subprocess.PIPE)
        for _ in range(rng.integers(1, 15)):
            assert run.stdout.readline() == b"added\n"
        time.sleep(rng.uniform(0, 0.005))  # anywhere within a call
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    index, memory = opened(home, tmp_path), TwoStageIndex("images")
    there = len(index)
    assert there % 10 == 0 and 100 <= there < 3000, "every kill came while it grew"
    assert index.add(names(3000), items) == 3000 - there and len(index) == 3000
    memory.add(names(3000), items)
    same(index.query(queries, top=200), memory.query(queries, top=200))


def test_an_append_that_breaks_off_anywhere_leaves_no_trace(tmp_path, monkeypatch):
    from itr_lib.search import store as module

    store, rows = Store(tmp_path / "store", {}), {"whole": torch.ones(2, 3), "ends": torch.arange(2)}
    store.append(["a", "b"], rows)
    real, calls = os.fsync, []
    for breaks in range(4):  # names, whole, ends, state
        calls.clear()

        def fsync(number, breaks=breaks):
            calls.append(number)
            if len(calls) > breaks:
                raise OSError("the disk is gone")
            real(number)

        monkeypatch.setattr(module.os, "fsync", fsync)
        with pytest.raises(OSError, match="the disk is gone"):
            store.append(["c", "d"], rows)
        monkeypatch.undo()
        for which in (store, Store(tmp_path / "store", {})):
            assert which.names == ["a", "b"] and which.array("whole").shape == (2, 3)
    store.append(["c", "d"], rows)
    assert Store(tmp_path / "store", {}).array("ends").tolist() == [0, 1, 0, 1]


def test_a_store_that_lacks_something_is_refused(tmp_path):
    store = Store(tmp_path / "store", {"side": "images"})
    store.append(["a"], {"whole": torch.ones(1, 3)})
    with pytest.raises(ValueError, match="holds an index with .*images.* expected .*captions.*: make the index again"):
        Store(tmp_path / "store", {"side": "captions"})
    os.truncate(tmp_path / "store" / "whole", 8)
    with pytest.raises(ValueError, match="whole has 8 bytes, expected 12: it is damaged"):
        Store(tmp_path / "store", {"side": "images"})
    (tmp_path / "store" / "state.json").write_text("{")
    with pytest.raises(ValueError, match=r"state\.json cannot be read as that of an index"):
        Store(tmp_path / "store", {"side": "images"})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="mine holds files but no index: expected an empty folder"):
        Store(tmp_path / "mine", {})


# --- without the extra -----------------------------------------------------------------------------------------------


def test_nothing_of_the_extra_is_imported_before_an_index_asks_for_it():
    code = (
        "import sys, itr_lib.search, itr_lib.search.faiss, itr_lib.search.qdrant;"
        "print({'faiss', 'qdrant_client', 'qdrant_edge'} & sys.modules.keys())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    for package in PACKAGES.values():
        monkeypatch.setitem(sys.modules, package, None)
    for home, package in PACKAGES.items():
        with pytest.raises(ImportError, match=rf"{package} is not installed: pip install .*\[scale\]"):
            opened(home, tmp_path)
