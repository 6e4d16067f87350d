"""Record the runs behind a lesson's tables of seeds and ablations; a run that is already recorded is not repeated.

python -m data_scripts.record --lesson 01_global_embeddings --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import copy
import platform
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch
import transformers
from filelock import FileLock
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from itr_lib.data import Splits, load_splits, train_tokenizer
from itr_lib.data.batches import CaptionBatch, ImageBatch
from itr_lib.data.dataset import RetrievalData
from itr_lib.data.questions import questions_of
from itr_lib.data.scenes import graph_relevance
from itr_lib.encoders.tokens import GlobalTokens
from itr_lib.evaluation import ndcg, pair_accuracy, retrieval_metrics, structure_agreement, two_stage_metrics
from itr_lib.evaluation.pointing import largest_box_accuracy, pointing_accuracy
from itr_lib.figures import RECALLS
from itr_lib.guides.clip import guided
from itr_lib.inference import Encoded, encode
from itr_lib.lessons import recipes
from itr_lib.lessons.recorded import RECORDED, recorded, write_record
from itr_lib.objectives import InfoNCEObjective, TripletObjective
from itr_lib.similarity import cosine_scores
from itr_lib.training import train

# One training. Or two: TGDT's branches and then what stands on top of them, or two networks that are asked as one.
Plan = recipes.Recipe | tuple[recipes.Recipe, recipes.Recipe]
Variants = dict[str, Plan]
TRAINED: dict[str, tuple[list, dict]] = {}  # history and weights by recipe: several plans have trainings in common
SHORTLISTS = (10, 20, 50, 100, 200)


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


def lesson05(profile: str, data: str, seed: int) -> Variants:
    """TGDT and what can be left out of it; and the other models with its encoders."""
    branches, heads = recipes.tgdt_in_turn(profile, data, seed)
    at_once = recipes.tgdt(profile, data, seed)
    joint = replace(at_once, settings={**at_once.settings, "detach": False})
    global_only = {**joint.settings, "local_weight": 0.0}
    paper_loss = replace(heads.objective, temperature=None)
    passes = branches.training.epochs + heads.training.epochs  # over the training data, for every model
    budget = replace(at_once.training, epochs=passes)
    fine = replace(recipes.teran(profile, data, seed), training=budget)
    one_vector = replace(recipes.one_vector(at_once), objective=InfoNCEObjective(), training=budget)
    chan, user = recipes.chan(profile, data, seed), recipes.user(profile, data, seed)
    same = {"text": one_vector.text, "training": budget}
    return {
        "TGDT": (branches, heads),
        "longer branches": (replace(branches, training=budget), heads),
        "without intra": (branches, replace(heads, objective=replace(heads.objective, intra_weight=0.0))),
        "hinge": (branches, replace(heads, objective=paper_loss, training=replace(heads.training, epochs=2))),
        "at once": at_once,
        "joint": joint,
        "global only": replace(joint, settings=global_only, objective=replace(joint.objective, local_weight=0.0)),
        "TERAN": fine,
        "VSE": one_vector,
        "VSE, then TERAN": (one_vector, fine),
        "CHAN": replace(chan, settings={**chan.settings, "region_layers": 1}, **same),
        "USER": replace(user, settings={**user.settings, "region_layers": 1}, **same),
    }


LESSONS = {
    "01_global_embeddings": lesson01,
    "02_fine_grained_alignment": lesson02,
    "03_hard_alignment": lesson03,
    "04_momentum_queues": lesson04,
    "05_tgdt_cmc": lesson05,
}


class TwoNetworks(nn.Module):
    """One network for the whole and another for the tokens, with the two readings that TGDT has in one."""

    def __init__(self, whole: nn.Module, fine: nn.Module):
        super().__init__()
        self.whole, self.fine = whole, fine
        self.config = SimpleNamespace(dim=whole.config.dim, local_weight=1.0)

    def encode_images(self, batch: ImageBatch) -> GlobalTokens:
        """A vector an image of the one, a vector a region of the other."""
        return GlobalTokens(self.whole.encode_images(batch), *self.fine.encode_images(batch))

    def encode_captions(self, batch: CaptionBatch) -> GlobalTokens:
        """A vector a caption of the one, a vector a token of the other."""
        return GlobalTokens(self.whole.encode_captions(batch), *self.fine.encode_captions(batch))

    def global_scores(self, images: GlobalTokens, captions: GlobalTokens) -> Float[Tensor, "images captions"]:
        """Scores of the first network."""
        return self.whole.scores(images.whole, captions.whole)

    def local_scores(self, images: GlobalTokens, captions: GlobalTokens) -> Float[Tensor, "images captions"]:
        """Scores of the second."""
        return self.fine.scores(images.tokens, captions.tokens)


def untrained(plan: Plan, data: RetrievalData, tokenizer: PreTrainedTokenizerBase) -> nn.Module:
    """The model of a plan, as it begins."""
    if isinstance(plan, recipes.Recipe):
        return plan.build(data, tokenizer)
    first, second = plan
    network = first.build(data, tokenizer)
    return network if first.model == second.model else TwoNetworks(network, second.build(data, tokenizer))


def run(plan: Plan, splits: Splits, device: str) -> dict:
    """Train one variant; its metrics, its history, and how many weights it trains."""
    tokenizer = train_tokenizer(splits.train.captions)
    model = untrained(plan, splits.train, tokenizer)

    def fit(part: nn.Module, recipe: recipes.Recipe) -> list[dict[str, float]]:
        data = tokenizer, splits.train, splits.val
        return train(part, recipe.objective, *data, recipe.training, device=device, progress=False).epochs

    def fit_once(part: nn.Module, recipe: recipes.Recipe) -> list[dict[str, float]]:
        if repr(recipe) not in TRAINED:
            TRAINED[repr(recipe)] = fit(part, recipe), copy.deepcopy(part.state_dict())
        epochs, state = TRAINED[repr(recipe)]
        part.to(device).load_state_dict(state)
        return epochs

    if isinstance(plan, recipes.Recipe):
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


def recipe_of(plan: Plan) -> recipes.Recipe:
    """The first training of a plan."""
    return plan if isinstance(plan, recipes.Recipe) else plan[0]


def measure(model: nn.Module, tokenizer: PreTrainedTokenizerBase, splits: Splits, device: str) -> dict[str, float]:
    """Retrieval on the test split, NDCG by scene graph, twins, and pointing, as far as the data know the truth.

    Of a model with two readings each (``global_``, ``local_``) beside their sum, searches in two stages (``k50_``), and
    how far the two modalities agree on what is alike.
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
        both = readings["global"], readings["local"]
        for shortlist in SHORTLISTS:
            weight = model.config.local_weight
            found = two_stage_metrics(*both, splits.test.image_of_caption, shortlist, local_weight=weight)
            metrics |= {f"k{shortlist}_{name}": value for name, value in found.as_dict().items() if name in RECALLS}
            if splits.test.truth is not None:
                metrics[f"k{shortlist}_ndcg_graph"] = _two_stage_ndcg(readings, shortlist, splits.test)
        first = captions.whole[np.unique(splits.test.image_of_caption, return_index=True)[1]]  # a caption an image
        metrics |= structure_agreement(cosine_scores(images.whole, images.whole), cosine_scores(first, first))
    questions = questions_of(splits, tokenizer)
    if questions is not None and not isinstance(images, torch.Tensor):
        regions, words = (getattr(encoded, "tokens", encoded) for encoded in (images, captions))
        pointed = pointing_accuracy(*regions, *words, splits.test.image_of_caption, questions)
        metrics |= {f"pointing_{kind}": value for kind, value in pointed.items()}
    if splits.phrases is not None:
        data = splits.test
        largest = largest_box_accuracy(data.boxes, data.region_mask, data.image_of_caption, questions)
        metrics["pointing_largest_box"] = largest["all"]
    return metrics


@torch.no_grad()
def readings_of(model: nn.Module, images: Encoded, captions: Encoded) -> dict[str, Tensor]:
    """The scores of a model, under the name ``""``, and of one with two readings each of them."""
    if not isinstance(images, GlobalTokens):
        return {"": model.scores(images, captions).float().cpu()}
    whole, local = (part(images, captions).float().cpu() for part in (model.global_scores, model.local_scores))
    return {"": whole + model.config.local_weight * local, "global": whole, "local": local}


def _retrieval(scores: Tensor, data: RetrievalData) -> dict[str, float]:
    metrics = retrieval_metrics(scores, data.image_of_caption).as_dict()
    if data.truth is not None:
        metrics["ndcg_graph"] = ndcg(scores.T, _relevance(data).T)
    return metrics


def _relevance(data: RetrievalData) -> np.ndarray:
    return graph_relevance(data.truth.scenes, data.truth.captions, data.image_of_caption)


def _two_stage_ndcg(readings: dict[str, Tensor], shortlist: int, data: RetrievalData) -> float:
    """NDCG of the order of images that a search in two stages returns for each caption."""
    first, second = readings["global"].T, readings[""].T
    found = first.topk(min(shortlist, first.shape[1]), dim=1).indices
    ahead = 1 + 2 * float(max(first.abs().max(), second.abs().max()))  # the shortlist comes before all others
    return ndcg(first.scatter(1, found, second.gather(1, found) + ahead), _relevance(data).T)


def _prefixed(name: str, metrics: dict[str, float]) -> dict[str, float]:
    return {f"{name}_{metric}" if name else metric: value for metric, value in metrics.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, variant by variant, and write the record after each."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.record", description=__doc__.splitlines()[0])
    parser.add_argument("--lesson", required=True, choices=LESSONS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--profile", default="quick", choices=("smoke", "quick", "full"))
    parser.add_argument("--data", default="scenes")
    parser.add_argument("--root", default="")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--variants", nargs="+", help="only these, by their names in the record")
    options = parser.parse_args(arguments)
    known = LESSONS[options.lesson](options.profile, options.data, 0)
    if unknown := set(options.variants or ()) - set(known):
        parser.error(f"there is no variant {', '.join(map(repr, unknown))}: expected some of {list(known)}")
    splits = load_splits(options.data, options.root, profile=options.profile)
    if any(recipe_of(known[variant]).settings.get("guide") == "clip" for variant in options.variants or known):
        splits = guided(splits, profile=options.profile, device=options.device)
    for seed in options.seeds:
        for variant, plan in LESSONS[options.lesson](options.profile, options.data, seed).items():
            if options.variants and variant not in options.variants:
                continue
            label = (variant, seed, repr(plan))
            if any((r["variant"], r["seed"], r["settings"]) == label for r in _read(options)["runs"]):
                continue
            result = run(plan, splits, options.device)
            with FileLock(RECORDED / ".lock"):  # two processes may share the seeds between them
                record = _read(options)
                record["runs"] = [r for r in record["runs"] if (r["variant"], r["seed"]) != (variant, seed)]
                record["runs"].append({"variant": variant, "seed": seed, "settings": repr(plan), **result})
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
        "threads": torch.get_num_threads(),
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
