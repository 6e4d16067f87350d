"""Make the leaderboard: what lesson 05's recorded runs found, and what a query costs each model, timed here in one run.

    python -m data_scripts.leaderboard

Times are those of a single caption that asks for an image of the test split, on the CPU: to encode it, and from encoded
to ranked. They do not depend on what the weights are, so the models that are timed are untrained.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.std import tqdm
from transformers import PreTrainedTokenizerBase

from itr_lib.data import Splits, load_splits, tokenise, train_tokenizer
from itr_lib.data.batches import caption_batch
from itr_lib.data.dataset import RetrievalData
from itr_lib.data.questions import questions_of
from itr_lib.data.scenes import graph_relevance
from itr_lib.data.scenes.meaning import truth_matrix
from itr_lib.encoders.tokens import Encoded
from itr_lib.evaluation import ceiling_scores, expected_recall, ndcg
from itr_lib.evaluation.pointing import detector_ceiling
from itr_lib.figures import RECALLS
from itr_lib.files import write_whole
from itr_lib.inference import encode, rows_of
from itr_lib.lessons.leaderboard import board_path, cost_table, quality_table
from itr_lib.lessons.recorded import recorded
from itr_lib.lessons.timing import milliseconds
from itr_lib.lessons.variants import LESSONS, Variants, untrained
from itr_lib.search import Found, TwoStageIndex

LESSON = "05_tgdt_cmc"
SHORTLIST = 50
QUERIES = 40  # images, whose captions ask
ROUNDS = 5  # all systems take turns; of each the quietest round counts, since others may use the machine
# name on the board: the recorded variant, and what stands before the names of this system's metrics
SYSTEMS = {
    "VSE": ("VSE", ""),
    "USER": ("USER", ""),
    "TGDT, global reading": ("TGDT", "global_"),
    f"TGDT, two stages (K = {SHORTLIST})": ("TGDT", f"k{SHORTLIST}_"),
    "TGDT, both readings": ("TGDT", ""),
    f"TGDT, longer branches (K = {SHORTLIST})": ("longer branches", f"k{SHORTLIST}_"),
    f"VSE, then TERAN (K = {SHORTLIST})": ("VSE, then TERAN", f"k{SHORTLIST}_"),
    "TERAN": ("TERAN", ""),
    "CHAN": ("CHAN", ""),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Time every system, put its recorded runs beside it, and write the board."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.leaderboard", description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="scenes")
    parser.add_argument("--root", default="")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    if options.threads < 1:
        parser.error("--threads must be at least 1")
    torch.set_num_threads(options.threads)
    record = recorded(LESSON, options.data)
    if record is None:
        parser.error(f"nothing is recorded for {options.data}: python -m data_scripts.record --lesson {LESSON}")
    try:
        splits = load_splits(options.data, options.root, profile=record["profile"])
    except ValueError as error:
        parser.error(str(error))
    tokenizer = train_tokenizer(splits.train.captions)
    plans = LESSONS[LESSON](record["profile"], options.data, 0)
    queries = splits.test.take(np.arange(min(QUERIES, len(splits.test))))
    if missing := {variant for variant, _ in SYSTEMS.values()} - {run["variant"] for run in record["runs"]}:
        parser.error(f"no run of {', '.join(sorted(missing))} is recorded: {record['command']}")
    board = {
        "command": "python -m data_scripts.leaderboard"
        + (f" --data {options.data}" if options.data != "scenes" else ""),
        "runs_from": record["command"],
        "profile": record["profile"],
        "data": options.data,
        "gallery": len(splits.test),
        "threads": options.threads,
        "systems": all_systems(record["runs"], plans, splits, queries, tokenizer),
        **references(splits, tokenizer),
    }
    path = board_path(options.data)
    write_whole(path, json.dumps(board, indent=1) + "\n")
    print(quality_table(board).to_string(), cost_table(board).to_string(), sep="\n\n")


def all_systems(
    recorded_runs: list[dict],
    plans: Variants,
    splits: Splits,
    queries: RetrievalData,
    tokenizer: PreTrainedTokenizerBase,
) -> list[dict]:
    """Each system's recorded runs, and what a caption costs it, timed now."""
    models = {variant: untrained(plans[variant], splits.train, tokenizer).eval() for variant, _ in SYSTEMS.values()}
    tokens = tokenise(tokenizer, queries.captions)
    batches = [caption_batch(tokens, np.array([row])) for row in range(len(queries.captions))]
    jobs: dict[tuple, tuple[Callable, list]] = {}
    kept, ranking = {}, {}  # bytes an image; what a system's ranking is timed as
    for name, (variant, before) in SYSTEMS.items():
        model = models[variant]
        ask, kept[name] = search(model, name, splits.test, tokenizer)
        captions = encode(model, tokenizer, queries)[1]
        one_vector = before == "global_" or isinstance(captions, Tensor)
        ranking[name] = ("rank", kept[name] if one_vector else name)  # a vector is searched as any of its width is
        jobs.setdefault(ranking[name], (ask, [rows_of(captions, torch.tensor([row])) for row in range(len(batches))]))
        jobs["encode", variant] = (model.encode_captions, batches)
    quietest = dict.fromkeys(jobs, np.inf)
    for _ in tqdm(range(ROUNDS), desc="timing", ncols=80):
        for job in jobs:
            with torch.no_grad():
                quietest[job] = min(quietest[job], round(milliseconds(*jobs[job], warm=20), 4))
    systems = []
    for name, (variant, before) in SYSTEMS.items():
        runs = [run for run in recorded_runs if run["variant"] == variant]
        systems.append(
            {
                "name": name,
                "runs": [on_board(run["metrics"], before) for run in runs],
                "seeds": [run["seed"] for run in runs],
                "parameters": runs[0]["parameters"],
                "train_seconds": [round(sum(epoch["seconds"] for epoch in run["epochs"]), 1) for run in runs],
                "encode_ms": quietest["encode", variant],
                "ms_per_query": quietest[ranking[name]],
                "bytes_per_image": round(kept[name], 1),
            }
        )
    return systems


def on_board(metrics: dict[str, float], before: str) -> dict[str, float]:
    """What the board shows of a run's metrics; twins and pointing of two stages are those of both readings."""
    chosen = {name: metrics[f"{before}{name}"] for name in (*RECALLS, "ndcg_graph") if f"{before}{name}" in metrics}
    twins = before if before == "global_" else ""
    chosen |= {kind: metrics[f"{twins}{kind}"] for kind in ("swaps", "replaces") if f"{twins}{kind}" in metrics}
    if before != "global_" and "pointing_all" in metrics:
        chosen["pointing"] = metrics["pointing_all"]
    return chosen


def search(
    model: nn.Module, name: str, data: RetrievalData, tokenizer: PreTrainedTokenizerBase
) -> tuple[Callable[[Encoded], Found], float]:
    """How a system answers one encoded caption with ten images, and how many bytes an image it keeps for that."""
    before = SYSTEMS[name][1]
    shortlist = SHORTLIST if before.startswith("k") else len(data)

    def part(encoded: Encoded) -> Encoded:
        return encoded.whole if before == "global_" else encoded

    index = TwoStageIndex.for_model(model, "images")
    index.add(data.image_ids, part(encode(model, tokenizer, data)[0]))
    return lambda caption: index.query(part(caption), shortlist=shortlist, top=10), index.bytes_per_item


def references(splits: Splits, tokenizer: PreTrainedTokenizerBase) -> dict[str, dict[str, float]]:
    """Chance, and where the truth is known the ceiling: a perfect reader, who points with the detector's eyes."""
    data = splits.test
    chance = expected_recall(np.zeros((len(data), len(data.captions))), data.image_of_caption)
    chance |= dict.fromkeys(splits.probes, 50.0)
    if data.truth is None:
        return {"chance": chance, "ceiling": {}}
    truth = ceiling_scores(truth_matrix(data.truth.scenes, data.truth.captions))
    relevance = graph_relevance(data.truth.scenes, data.truth.captions, data.image_of_caption)
    by_lot = np.random.default_rng(0).random(relevance.T.shape)
    questions = questions_of(splits, tokenizer)
    pointed = detector_ceiling(data, questions)
    chance |= {"ndcg_graph": ndcg(by_lot, relevance.T), "pointing": pointed["chance"]}
    ceiling = expected_recall(truth, data.image_of_caption) | dict.fromkeys(splits.probes, 100.0)
    return {"chance": chance, "ceiling": ceiling | {"ndcg_graph": 1.0, "pointing": pointed["all"]}}


if __name__ == "__main__":
    main()
