"""How fast scoring and searching are, in ratio to what they are made of, all from one run on this machine.

python -m data_scripts.benchmarks --threads 2
python -m data_scripts.benchmarks --search-alone --gallery 1000 --shortlist 50

The floor of scoring is the product of the same real vectors, in blocks as large as a cache likes them: whoever
computes all alignments does at least that. A search in two stages stands beside one that aligns every image. Ratios
can be compared between machines, times cannot.
"""

from __future__ import annotations

import argparse
import ctypes
import platform
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from itr_lib.clock import seconds
from itr_lib.encoders.tokens import GlobalTokens
from itr_lib.lessons.machine import choose_device
from itr_lib.objectives import info_nce, triplet_loss
from itr_lib.search import TwoStageIndex
from itr_lib.similarity import GPU_BUDGET, SCAN_BUDGET, alignment_scores
from itr_lib.similarity.precision import fastest_dtype

DIM, REGIONS, WORDS = 1024, 36, (7, 21)
BLOCK = 1024  # columns of the floor's blocks
SMALL, BATCH, COCO_5K, COCO_PART = (200, 1_000), 128, (5_000, 25_000), (500, 1_000)  # images, captions
GALLERY, GALLERY_DIM, QUERIES, SHORTLIST = 25_000, 128, 50, 100  # images; numbers a vector; captions
CHUNK = 500  # images made and added at once
MEMORY = Path("/proc/self")  # where Linux tells a process's largest size


def best_times(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of each way, the best of ``repeats``; the ways take turns, so that all meet the same weather."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            taken = seconds(way)
            if turn:  # the first turn warms up
                times[name].append(taken)
    return {name: min(some) for name, some in times.items()}


def peak_mib(function: Callable[[], object], device: str) -> float | None:
    """Memory that a call takes beyond what was there before it and the result it leaves, in MiB; None: cannot say."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = function()
        return (torch.cuda.max_memory_allocated() - before - result.numel() * result.element_size()) / 2**20
    try:
        ctypes.CDLL(None).malloc_trim(0)  # else what earlier calls have left would serve this one
        (MEMORY / "clear_refs").write_text("5")  # forget the high-water mark
    except (OSError, AttributeError):
        return None
    before = _kib("VmRSS")
    result = function()
    return (_kib("VmHWM") - before) / 1024 - result.numel() * result.element_size() / 2**20


def _kib(name: str) -> int:
    return int(re.search(rf"{name}:\s+(\d+) kB", (MEMORY / "status").read_text())[1])


def made_pairs(images: int, captions: int, dim: int, seed: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Unit region vectors, and captions whose words are blurred copies of regions of one image; and the word mask."""
    g = torch.Generator().manual_seed(seed)
    regions = F.normalize(torch.randn(images, REGIONS, dim, generator=g), dim=-1)
    owner = torch.arange(captions) % images
    picked = torch.randint(REGIONS, (captions, WORDS[1]), generator=g)
    noise = torch.randn(captions, WORDS[1], dim, generator=g) * (4 / dim**0.5)
    words = F.normalize(regions[owner[:, None], picked] + noise, dim=-1)
    length = torch.randint(WORDS[0], WORDS[1] + 1, (captions, 1), generator=g)
    return regions.to(device), words.to(device), (torch.arange(WORDS[1]) < length).to(device)


def product(regions: Tensor, words: Tensor) -> Tensor:
    """The floor: every dot product of two packed matrices, block by block; returns the last block."""
    for some in words.split(BLOCK):
        block = regions @ some.T
    return block


@torch.no_grad()
def exhaustive(options: argparse.Namespace) -> None:
    """All scores of 200 images and 1,000 captions."""
    regions, words, mask = made_pairs(*SMALL, DIM, options.seed, options.device)
    packed = regions.flatten(0, 1), words[mask]
    score = partial(alignment_scores, regions, words, None, mask)
    low = [tensor.bfloat16() for tensor in (regions, words)]
    ways = {
        "bare product": lambda: product(*packed),
        "hard (MrSw)": score,
        "hard, both sides (Symm)": lambda: score(attend="both"),
        "soft": lambda: score(coding="soft"),
        "hard in bfloat16": lambda: alignment_scores(*low, None, mask),
        "padded, four axes": lambda: padded(regions, words, mask),
    }
    _ratios(
        f"{SMALL[0]} images x {REGIONS} regions, {SMALL[1]:,} captions of {WORDS[0]} to {WORDS[1]} words", ways, options
    )
    words_mib = packed[1].numel() * packed[1].element_size() / 2**20
    budget = GPU_BUDGET if options.device == "cuda" else SCAN_BUDGET
    print(
        f"  memory beyond inputs and result; budget {budget / 2**20:.0f} MiB, packed copy of the words {words_mib:.0f}"
    )
    for name in ("bare product", "hard (MrSw)", "soft"):
        extra = peak_mib(ways[name], options.device)
        print(f"    {name:26s} {'not known here' if extra is None else f'{extra:9.0f} MiB'}")
    exact, rough = score(), alignment_scores(*low, None, mask)
    same = (exact.argmax(0) == rough.argmax(0)).double().mean()
    first = min(10, len(exact))
    top = [scores.topk(first, dim=0).indices for scores in (exact, rough)]
    shared = np.mean(
        [len(np.intersect1d(a, b)) / first for a, b in zip(*(t.T.cpu().numpy() for t in top), strict=True)]
    )
    print(
        f"  bfloat16 keeps the first image of {100 * same:.1f} % of captions, {100 * shared:.1f} % of the first {first}"
    )
    print(f"  fastest_dtype({options.device!r}) is {fastest_dtype(options.device)}")


def padded(regions: Tensor, words: Tensor, mask: Tensor) -> Tensor:
    """What a first version does: one tensor (images, captions, regions, words), padding and all."""
    best = [torch.einsum("rd,mwd->mrw", image, words).amax(dim=1) for image in regions]
    return torch.stack(best).masked_fill(~mask, 0).sum(dim=-1)


def training_step(options: argparse.Namespace) -> None:
    """Forward and backward of the scores of one batch of 128 pairs, the encoders left out."""
    regions, words, mask = made_pairs(BATCH, BATCH, DIM, options.seed, options.device)
    packed = regions.flatten(0, 1), words[mask]
    regions.requires_grad_(), words.requires_grad_()

    def step(loss: Callable[[Tensor], Tensor], **how: str) -> None:
        regions.grad = words.grad = None
        loss(alignment_scores(regions, words, None, mask, **how)).backward()

    def dense() -> None:
        regions.grad = words.grad = None
        triplet_loss(padded(regions, words, mask)).backward()

    ways = {
        "bare product, forward": lambda: packed[0] @ packed[1].T,
        "hard, hinge with hardest": lambda: step(triplet_loss),
        "hard, InfoNCE (all pairs)": lambda: step(info_nce),
        "soft, hinge with hardest": lambda: step(triplet_loss, coding="soft"),
        "padded, four axes, hinge": dense,
    }
    _ratios(f"a batch of {BATCH}, forward and backward", ways, options)


@torch.no_grad()
def coco(options: argparse.Namespace) -> None:
    """All scores of COCO 5K: measured on a GPU, on a CPU projected from a part of it."""
    images, captions = COCO_5K if options.device == "cuda" else COCO_PART
    share = images * captions / (COCO_5K[0] * COCO_5K[1])
    regions, words, mask = made_pairs(images, captions, DIM, options.seed, options.device)
    packed = regions.flatten(0, 1), words[mask]
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    how = "measured" if share == 1 else f"projected from {images:,} x {captions:,}"
    print(f"COCO 5K: {COCO_5K[0]:,} images, {COCO_5K[1]:,} captions, {how}")
    for name, kind in kinds.items():
        a, b, v, w = (tensor.to(kind) for tensor in (*packed, regions, words))
        ways = {"product": partial(product, a, b), "scores": partial(alignment_scores, v, w, None, mask)}
        best = best_times(ways, options.repeats)
        rate = 2 * len(a) * len(b) * DIM / best["scores"] / 1e9
        print(
            f"  {name:9s} {best['scores'] / share:7.1f} s, {rate:,.0f} GFLOP/s: "
            f"{100 * best['product'] / best['scores']:.0f} % of what the bare product reaches"
        )
    length = sum(WORDS) / 2
    index = [4 * DIM * count / 2**30 for count in (COCO_5K[0] * REGIONS, COCO_5K[1] * length)]
    result = 4 * COCO_5K[0] * COCO_5K[1] / 2**30
    print(
        f"  memory    regions {index[0]:.1f} GiB, words {index[1]:.1f} GiB (float32, packed), result {result:.1f} GiB"
    )


@torch.no_grad()
def two_stages(options: argparse.Namespace) -> None:
    """Time of a query in a made gallery: every item aligned, two stages, and the dot products alone; on the CPU."""
    began = perf_counter()
    index, vectors, whole, queries = made_gallery(options.gallery, options.seed)
    print(
        f"two stages: {options.gallery:,} images x {REGIONS} regions, {GALLERY_DIM} numbers a vector, float16 tokens,"
        f" {index.bytes_per_item / 1024:.1f} KiB an image; made in {perf_counter() - began:.0f} s"
    )
    shortlist = options.shortlist
    ways = {
        "every image aligned": lambda query: index.query(query, shortlist=len(index)),
        f"two stages, K = {shortlist}": lambda query: index.query(query, shortlist=shortlist),
        "dot product, the first 10": lambda query: vectors.query(query.whole),
        "bare dot product": lambda query: query.whole @ whole.T,
    }
    together = GlobalTokens(*map(torch.cat, zip(*queries, strict=True)))
    for asked in (queries, [together] * options.repeats):
        count = len(asked[0].whole)
        print(
            f"  captions of {WORDS[0]} to {WORDS[1]} words, {count} a call, on the CPU; a query's median and quickest"
        )
        taken = {name: np.array(some) / count for name, some in _each_query(ways, asked).items()}
        every, floor = (taken[name].min() for name in ("every image aligned", "bare dot product"))
        for name, some in taken.items():
            shares = f"1/{every / some.min():.1f} of aligning every image, {some.min() / floor:5.2f} times the product"
            print(f"    {name:26s} {1e3 * np.median(some):9.3f} ms {1e3 * some.min():9.3f} ms   {shares}")


def _each_query(ways: dict[str, Callable[[GlobalTokens], object]], queries: list[GlobalTokens]) -> dict[str, list]:
    """Seconds of every query, each way; the ways take turns, and an extra first query warms up."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for query in (queries[0], *queries):
        for name, way in ways.items():
            taken[name].append(seconds(partial(way, query)))
    return {name: some[1:] for name, some in taken.items()}


def made_gallery(images: int, seed: int) -> tuple[TwoStageIndex, TwoStageIndex, Tensor, list[GlobalTokens]]:
    """An index with tokens, one of the vectors alone, the vectors, and captions to ask with; made in pieces.

    Regions and words as in :func:`made_pairs`, a set's mean for the whole.
    """
    index, vectors = TwoStageIndex("images", token_dtype=torch.float16), TwoStageIndex("images")
    queries: list[GlobalTokens] = []
    wholes = []
    for start in range(0, images, CHUNK):
        count = min(CHUNK, images - start)
        asked = min(count, QUERIES) if start == 0 else 0
        regions, words, mask = made_pairs(count, asked, GALLERY_DIM, seed + start, "cpu")
        names, whole = [str(row) for row in range(start, start + count)], regions.mean(dim=1)
        index.add(names, GlobalTokens(whole, regions, torch.ones(regions.shape[:2], dtype=torch.bool)))
        vectors.add(names, whole)
        wholes.append(F.normalize(whole, dim=-1))
        meant = (words * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        queries += [GlobalTokens(*(part[i : i + 1] for part in (meant, words, mask))) for i in range(asked)]
    return index, vectors, torch.cat(wholes), queries


def _ratios(title: str, ways: dict[str, Callable[[], object]], options: argparse.Namespace) -> None:
    best = best_times(ways, options.repeats)
    floor = next(iter(best.values()))
    print(title)
    for name, some in best.items():
        print(f"  {name:28s} {1e3 * some:9.1f} ms   {some / floor:5.2f} times the product")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all of it."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gallery", type=int, default=GALLERY, help="images to search in two stages (%(default)s)")
    parser.add_argument("--shortlist", type=int, default=SHORTLIST, help="of two stages (%(default)s)")
    parser.add_argument("--search-alone", action="store_true", help="nothing but the gallery")
    options = parser.parse_args(arguments)
    if min(options.threads, options.repeats, options.gallery, options.shortlist) < 1:
        parser.error("--threads, --repeats, --gallery and --shortlist must be at least 1")
    try:
        options.device = choose_device(options.device)
    except ValueError as error:
        parser.error(str(error))
    torch.set_num_threads(options.threads)
    where = torch.cuda.get_device_name() if options.device == "cuda" else f"{platform.machine()} CPU"
    print(f"torch {torch.__version__}, {where}, {options.threads} threads, best of {options.repeats}")
    for part in (two_stages,) if options.search_alone else (exhaustive, training_step, coco, two_stages):
        part(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
