"""Record the runs behind a lesson's tables of seeds and ablations; a run that is already recorded is not repeated.

python -m data_scripts.record --lesson 01_global_embeddings --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import platform
from dataclasses import replace

import torch
import transformers
from filelock import FileLock
from torch import nn
from transformers import PreTrainedTokenizerBase

from itr_lib.course import recipes
from itr_lib.course.recorded import RECORDED, recorded, write_record
from itr_lib.data.guides import guided
from itr_lib.data.load import Splits, load_splits
from itr_lib.data.questions import questions_of
from itr_lib.data.scenes import graph_relevance
from itr_lib.encoders.text import train_tokenizer
from itr_lib.encoders.tokens import Tokens
from itr_lib.evaluation import ndcg, pair_accuracy, retrieval_metrics
from itr_lib.pointing import largest_box_accuracy, pointing_accuracy
from itr_lib.training import InfoNCEObjective, TripletObjective, encode, score, train

Variants = dict[str, recipes.Recipe]


def lesson01(profile: str, data: str, seed: int) -> Variants:
    """VSE++ and what lesson 01 changes in it, one thing at a time."""
    base = recipes.vse(profile, data, seed)
    captions_as_they_come = replace(base.training, unique_images=False)
    return {
        "VSE++ (hardest, GPO)": base,
        "all negatives": replace(base, objective=TripletObjective(warmup_epochs=base.training.epochs)),
        "InfoNCE": replace(base, objective=InfoNCEObjective()),
        "mean pooling": replace(base, settings={**base.settings, "pooling": "mean"}),
        "mean pooling, InfoNCE": replace(
            base, settings={**base.settings, "pooling": "mean"}, objective=InfoNCEObjective()
        ),
        "false negatives in": replace(
            base, objective=TripletObjective(mask_same_image=False), training=captions_as_they_come
        ),
        "hardest from step one": replace(base, objective=TripletObjective(warmup_epochs=0)),
    }


def lesson02(profile: str, data: str, seed: int) -> Variants:
    """TERAN, and global embeddings from the same encoders."""
    base = recipes.teran(profile, data, seed)
    one_vector = recipes.one_vector(base)
    return {
        "one vector": one_vector,
        "TERAN (MrSw)": base,
        "one vector, InfoNCE": replace(one_vector, objective=InfoNCEObjective()),
    }


def lesson03(profile: str, data: str, seed: int) -> Variants:
    """CHAN, hard against soft coding, and size augmentation."""
    base = recipes.chan(profile, data, seed)
    soft = {**base.settings, "coding": "soft", "pooling": "lse"}
    plain = {**base.settings, "drop_regions": 0.0, "corrupt_words": 0.0}
    return {
        "CHAN (hard, lse)": base,
        "soft, lse": replace(base, settings=soft),
        "no augmentation": replace(base, settings=plain),
    }


def lesson04(profile: str, data: str, seed: int) -> Variants:
    """USER with its queues; what it takes to make them work; and, without queues, what else there is to choose.

    All with positives clamped at 0 as in the paper, except for the course's own recipe, with and without queues.
    """
    course = recipes.user(profile, data, seed)
    base = replace(course, objective=replace(course.objective, floor=0.0))

    def queued(**settings) -> recipes.Recipe:
        return replace(base, settings={**base.settings, **settings})

    plain = queued(queue_size=0)

    def batches_of(size: int, group: int | None = None) -> recipes.Recipe:
        training = replace(base.training, batch_size=size)
        return replace(plain, training=training, objective=replace(base.objective, group=group))

    return {
        "USER (queue)": base,
        "no queue": plain,
        "momentum 0": queued(momentum=0.0),
        "momentum 0.9": queued(momentum=0.9),
        "momentum 0.999": queued(momentum=0.999),
        "batch 128": batches_of(128),
        "batch 32": batches_of(32),
        "batch 16": batches_of(16),
        "batch 16, groups of 2": batches_of(16, 2),
        "batch 16, groups of 4": batches_of(16, 4),
        "batch 16, groups of 8": batches_of(16, 8),
        "random keys": queued(random_keys=True),
        "false negatives in": replace(base, objective=replace(base.objective, mask_same_image=False)),
        "InfoNCE": replace(plain, objective=InfoNCEObjective()),
        "triplet": replace(plain, objective=TripletObjective()),
        "mu = 90": replace(plain, objective=replace(base.objective, mu=90.0)),
        "no guide": queued(queue_size=0, guide="none"),
        "CGE": queued(queue_size=0, guide="clip"),
        "USER (queue), no clamp": course,
        "no queue, no clamp": replace(course, settings=plain.settings),
    }


LESSONS = {
    "01_global_embeddings": lesson01,
    "02_fine_grained_alignment": lesson02,
    "03_hard_alignment": lesson03,
    "04_momentum_queues": lesson04,
}


def run(recipe: recipes.Recipe, splits: Splits, device: str) -> dict:
    """Train one variant; its metrics, its history, and how many weights it trains."""
    tokenizer = train_tokenizer(splits.train.captions)
    model = recipe.build(splits.train, tokenizer)
    history = train(
        model, recipe.objective, tokenizer, splits.train, splits.val, recipe.training, device=device, progress=False
    )
    metrics = measure(model, tokenizer, splits, device)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"metrics": metrics, "epochs": history.epochs, "parameters": trained}


def measure(model: nn.Module, tokenizer: PreTrainedTokenizerBase, splits: Splits, device: str) -> dict[str, float]:
    """Retrieval on the test split, NDCG by scene graph, twins, and pointing, as far as the data know the truth."""
    images, captions = encode(model, tokenizer, splits.test, device=device)
    scores = model.scores(images, captions).float().cpu()
    metrics = retrieval_metrics(scores, splits.test.image_of_caption).as_dict()
    for kind, probe in splits.probes.items():
        choices = pair_accuracy(score(model, tokenizer, probe, device=device))
        metrics |= {kind: choices["image"], f"{kind}_group": choices["group"]}
    if splits.test.truth is not None:
        truth, owner = splits.test.truth, splits.test.image_of_caption
        metrics["ndcg_graph"] = ndcg(scores.T, graph_relevance(truth.scenes, truth.captions, owner).T)
    questions = questions_of(splits, tokenizer)
    if questions is not None and isinstance(images, Tokens):
        pointed = pointing_accuracy(*images, *captions, splits.test.image_of_caption, questions)
        metrics |= {f"pointing_{kind}": value for kind, value in pointed.items()}
    if splits.phrases is not None:
        data = splits.test
        largest = largest_box_accuracy(data.boxes, data.region_mask, data.image_of_caption, questions)
        metrics["pointing_largest_box"] = largest["all"]
    return metrics


def main() -> None:
    """Run what is missing, variant by variant, and write the record after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lesson", required=True, choices=LESSONS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--profile", default="quick", choices=("smoke", "quick", "full"))
    parser.add_argument("--data", default="scenes")
    parser.add_argument("--root", default="")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--variants", nargs="+", help="only these, by their names in the record")
    options = parser.parse_args()
    known = LESSONS[options.lesson](options.profile, options.data, 0)
    if unknown := set(options.variants or ()) - set(known):
        parser.error(f"there is no variant {', '.join(map(repr, unknown))}: expected some of {list(known)}")
    splits = load_splits(options.data, options.root, profile=options.profile)
    if any(known[variant].settings.get("guide") == "clip" for variant in options.variants or known):
        splits = guided(splits, profile=options.profile, device=options.device)
    for seed in options.seeds:
        for variant, recipe in LESSONS[options.lesson](options.profile, options.data, seed).items():
            if options.variants and variant not in options.variants:
                continue
            label = (variant, seed, repr(recipe))
            if any((r["variant"], r["seed"], r["settings"]) == label for r in _read(options)["runs"]):
                continue
            result = run(recipe, splits, options.device)
            with FileLock(RECORDED / ".lock"):  # two processes may share the seeds between them
                record = _read(options)
                record["runs"] = [r for r in record["runs"] if (r["variant"], r["seed"]) != (variant, seed)]
                record["runs"].append({"variant": variant, "seed": seed, "settings": repr(recipe), **result})
                record["runs"].sort(key=lambda r: (r["variant"], r["seed"]))
                write_record(options.lesson, record)
            keep = ("t2i_r1", "i2t_r1", "rsum", "swaps", "replaces", "ndcg_graph", "pointing_all")
            print(
                f"{variant}, seed {seed}:",
                {k: round(v, 2) for k, v in result["metrics"].items() if k in keep},
                flush=True,
            )


def _read(options: argparse.Namespace) -> dict:
    root = " --root FOLDER" if options.root else ""
    record = recorded(options.lesson, options.data) or {
        "command": f"python -m data_scripts.record --lesson {options.lesson} --profile {options.profile} "
        f"--data {options.data}{root} --seeds {' '.join(map(str, options.seeds))}",
        "profile": options.profile,
        "data": options.data,
        "device": options.device,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "runs": [],
    }
    if record["profile"] != options.profile:
        raise SystemExit(
            f"the record of {options.lesson} on {options.data} was made on profile {record['profile']}: "
            "remove it to start again"
        )
    return record


if __name__ == "__main__":
    main()
