"""Record the runs behind a lesson's tables of seeds and ablations; a run that is already recorded is not repeated.

python -m data_scripts.record --lesson 01_global_embeddings --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import copy
import functools
import platform
from collections.abc import Sequence

import numpy as np
import torch
import transformers
from filelock import FileLock
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from itr_lib.data import Splits, load_splits, load_tokenizer, train_tokenizer
from itr_lib.data.dataset import RetrievalData
from itr_lib.data.questions import questions_of
from itr_lib.data.scenes import graph_relevance
from itr_lib.evaluation import (
    CAUSES,
    fold_metrics,
    ndcg,
    pair_accuracy,
    rare_words,
    recall_by_cause,
    retrieval_metrics,
    rouge_relevance,
    structure_agreement,
    two_stage_metrics,
)
from itr_lib.evaluation.pointing import largest_box_accuracy, pointing_accuracy
from itr_lib.figures import RECALLS
from itr_lib.guides.clip import guided
from itr_lib.inference import Encoded, encode, readings_of
from itr_lib.lessons.background import background_metrics
from itr_lib.lessons.recipes import Recipe
from itr_lib.lessons.recorded import RECORDED, recorded, same_settings, settings_of, write_record
from itr_lib.lessons.variants import LESSONS, OnPhotographs, Plan, recipe_of, untrained
from itr_lib.models import TwoNetworks
from itr_lib.models.chan import CHAN
from itr_lib.similarity import cosine_scores
from itr_lib.training import train

TRAINED: dict[Recipe, tuple[list, dict]] = {}  # history and weights by recipe: several plans have trainings in common
SHORTLISTS = (10, 20, 50, 100, 200)
FOLDS = 5  # of COCO's 5,000, as in COCO 1K; here of any test split of photographs


def run(plan: Plan, splits: Splits, device: str) -> dict:
    """Train one variant; its metrics, its history, and how many weights it trains."""
    pretrained = recipe_of(plan).model.text.pretrained
    tokenizer = load_tokenizer(pretrained) if pretrained else train_tokenizer(splits.train.captions)
    model = untrained(plan, splits.train, tokenizer)

    def fit(part: nn.Module, recipe: Recipe) -> list[dict[str, float]]:
        data = tokenizer, splits.train, splits.val
        return train(part, recipe.objective, *data, recipe.training, device=device, progress=False).epochs

    def fit_once(part: nn.Module, recipe: Recipe) -> list[dict[str, float]]:
        if recipe not in TRAINED:
            TRAINED[recipe] = fit(part, recipe), copy.deepcopy(part.state_dict())
        epochs, state = TRAINED[recipe]
        part.to(device).load_state_dict(state)
        return epochs

    if isinstance(plan, Recipe):
        epochs = fit_once(model, plan)
    elif isinstance(model, TwoNetworks):
        epochs = fit_once(model.whole, plan[0]) + fit_once(model.fine, plan[1])
    else:
        epochs = fit_once(model.local, plan[0])
        with model.global_alone():
            epochs = epochs + fit(model, plan[1])
    metrics = measure(model, tokenizer, splits, device)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"metrics": metrics, "epochs": epochs, "parameters": trained}


def measure(model: nn.Module, tokenizer: PreTrainedTokenizerBase, splits: Splits, device: str) -> dict[str, float]:
    """Retrieval on the test split, NDCG by scene graph, twins, and pointing, as far as the data know the truth.

    Of a model with two readings each (``global_``, ``local_``) beside their sum, searches in two stages (``k50_``), and
    how far the two modalities agree on what is alike. Of CHAN, what boxes of background do to its attention and recall.
    On photographs NDCG by words, recall in five folds, and recall by what a caption says (``cause_``).
    """
    images, captions = encode(model, tokenizer, splits.test, device=device)
    readings = readings_of(model, images, captions)
    metrics = {}
    for name, scores in readings.items():
        metrics |= _prefixed(name, _retrieval(scores, splits.test))
    for kind, probe in splits.probes.items():
        for name, scores in readings_of(model, *encode(model, tokenizer, probe, device=device)).items():
            choices = pair_accuracy(scores)
            metrics |= _prefixed(name, {kind: choices["image"], f"{kind}_group": choices["group"]})
    if len(readings) > 1:
        metrics |= _two_stages(readings, splits.test, model.local_weight)
        first = captions.whole[np.unique(splits.test.image_of_caption, return_index=True)[1]]  # a caption an image
        metrics |= structure_agreement(cosine_scores(images.whole, images.whole), cosine_scores(first, first))
    if splits.test.truth is None:
        metrics |= _on_photographs(readings[""], splits)
    if isinstance(model, CHAN) and splits.test.truth is not None:
        metrics |= background_metrics(model, tokenizer, splits.test, device)
    return metrics | _pointing(images, captions, splits, tokenizer)


def _retrieval(scores: Tensor, data: RetrievalData) -> dict[str, float]:
    metrics = retrieval_metrics(scores, data.image_of_caption).as_dict()
    if data.truth is not None:
        metrics["ndcg_graph"] = ndcg(scores.T, _relevance(data).T)
    return metrics


def _relevance(data: RetrievalData) -> np.ndarray:
    return graph_relevance(data.truth.scenes, data.truth.captions, data.image_of_caption)


def _on_photographs(scores: Tensor, splits: Splits) -> dict[str, float]:
    data, owner = splits.test, splits.test.image_of_caption
    inside = owner < len(data) // FOLDS * FOLDS
    parts = fold_metrics(scores[: len(data) // FOLDS * FOLDS][:, inside], owner[inside], FOLDS)
    rivals = scores.clone()
    rivals[owner, torch.arange(len(owner))] = -torch.inf
    hits = (scores[owner, torch.arange(len(owner))] > rivals.amax(dim=0)).numpy()
    causes = CAUSES | {"rare_words": rare_words(data.captions, splits.train.captions)}
    found = recall_by_cause(data.captions, hits, causes)
    return {
        "ndcg_rouge": ndcg(scores.T, _rouge(data)),
        f"folds{FOLDS}_t2i_r1": parts.t2i_r1,
        **{f"cause_{cause}": float(percent) for cause, (percent, _) in found.items()},
        **{f"count_{cause}": float(count) for cause, (_, count) in found.items()},
    }


@functools.lru_cache(maxsize=1)
def _rouge(data: RetrievalData) -> np.ndarray:
    return rouge_relevance(data)


def _two_stages(readings: dict[str, Tensor], data: RetrievalData, local_weight: float) -> dict[str, float]:
    metrics = {}
    both = readings["global"], readings["local"]
    for shortlist in SHORTLISTS:
        found = two_stage_metrics(*both, data.image_of_caption, shortlist, local_weight=local_weight)
        metrics |= {f"k{shortlist}_{name}": value for name, value in found.as_dict().items() if name in RECALLS}
        if data.truth is not None:
            metrics[f"k{shortlist}_ndcg_graph"] = _two_stage_ndcg(readings, shortlist, data)
    return metrics


def _two_stage_ndcg(readings: dict[str, Tensor], shortlist: int, data: RetrievalData) -> float:
    """NDCG of the order of images that a search in two stages returns for each caption."""
    first, second = readings["global"].T, readings[""].T
    found = first.topk(min(shortlist, first.shape[1]), dim=1).indices
    ahead = 1 + 2 * float(max(first.abs().max(), second.abs().max()))  # the shortlist comes before all others
    return ndcg(first.scatter(1, found, second.gather(1, found) + ahead), _relevance(data).T)


def _pointing(
    images: Encoded, captions: Encoded, splits: Splits, tokenizer: PreTrainedTokenizerBase
) -> dict[str, float]:
    data, questions, metrics = splits.test, questions_of(splits, tokenizer), {}
    if questions is not None and not isinstance(images, torch.Tensor):
        regions, words = (getattr(encoded, "tokens", encoded) for encoded in (images, captions))
        pointed = pointing_accuracy(*regions, *words, data.image_of_caption, questions)
        metrics |= {f"pointing_{kind}": value for kind, value in pointed.items()}
    if splits.phrases is not None:
        largest = largest_box_accuracy(data.boxes, data.region_mask, data.image_of_caption, questions)
        metrics["pointing_largest_box"] = largest["all"]
    return metrics


def _prefixed(name: str, metrics: dict[str, float]) -> dict[str, float]:
    return {f"{name}_{metric}" if name else metric: value for metric, value in metrics.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, variant by variant, and write the record after each."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.record", description=__doc__.splitlines()[0])
    own = "06_real_photographs"  # data_scripts.record_photographs records it
    parser.add_argument("--lesson", required=True, choices=[lesson for lesson in LESSONS if lesson != own])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--profile", default="quick", choices=("smoke", "quick", "full"))
    parser.add_argument("--data", default="scenes")
    parser.add_argument("--root", default="")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--variants", nargs="+", help="only these, by their names in the record")
    options = parser.parse_args(arguments)
    known = LESSONS[options.lesson](options.profile, options.data, 0)
    chosen = options.variants or list(known)
    if unknown := set(chosen) - set(known):
        parser.error(f"there is no variant {', '.join(map(repr, unknown))}: expected some of {list(known)}")
    try:
        splits = load_splits(options.data, options.root, profile=options.profile)
    except ValueError as error:
        parser.error(str(error))
    root, device = " --root FOLDER" * bool(options.root), f" --device {options.device}" * (options.device != "cpu")
    options.command = (
        f"python -m data_scripts.record --lesson {options.lesson} --profile {options.profile} "
        f"--data {options.data}{root}{device} --seeds {' '.join(map(str, options.seeds))}"
    )
    TRAINED.clear()  # whatever else this process has trained, it was on other data
    if any(getattr(recipe_of(known[variant]).model, "guide", None) == "clip" for variant in chosen):
        splits = guided(splits, profile=options.profile, device=options.device)
    for seed in options.seeds:
        plans = LESSONS[options.lesson](options.profile, options.data, seed)
        for variant in (name for name in plans if name in chosen):
            record_once(variant, seed, plans[variant], splits, options)


def record_once(
    variant: str, seed: int, plan: Plan | OnPhotographs, splits: Splits, options: argparse.Namespace
) -> None:
    """Run one variant with one seed and add it to the record, unless it is there with today's settings."""

    def is_it(recorded_run: dict) -> bool:
        return (recorded_run["variant"], recorded_run["seed"]) == (variant, seed)

    if any(is_it(one) and same_settings(one["settings"], plan) for one in _read(options)["runs"]):
        return
    result = run(plan.plan if isinstance(plan, OnPhotographs) else plan, splits, options.device)
    with FileLock(RECORDED / ".lock"):  # two processes may share the seeds between them
        record = _read(options)
        record["runs"] = [one for one in record["runs"] if not is_it(one)]
        record["runs"].append({"variant": variant, "seed": seed, "settings": settings_of(plan), **result})
        record["runs"].sort(key=lambda one: (one["variant"], one["seed"]))
        write_record(options.lesson, record)
    keep = ("t2i_r1", "i2t_r1", "rsum", "swaps", "replaces", "ndcg_graph", "pointing_all")
    told = {name: round(value, 2) for name, value in result["metrics"].items() if name in keep}
    print(f"{variant}, seed {seed}:", told, flush=True)


def _read(options: argparse.Namespace) -> dict:
    record = recorded(options.lesson, options.data) or {
        "command": options.command,
        "profile": options.profile,
        "data": options.data,
        "device": options.device,
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "runs": [],
    }
    for setting in ("profile", "device"):
        if record[setting] != getattr(options, setting):
            raise SystemExit(
                f"the record of {options.lesson} on {options.data} was made on {setting} {record[setting]}: "
                "remove it to start again"
            )
    return record


if __name__ == "__main__":
    main()
