"""What a lesson's tables compare: its models, and what is changed in them one thing at a time.

The numbers come from recorded runs (:mod:`itr_lib.lessons.recorded`), which ``data_scripts.record`` makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import nn
from transformers import PreTrainedTokenizerBase

from itr_lib.data.dataset import RetrievalData
from itr_lib.encoders.text import TextConfig
from itr_lib.lessons import recipes
from itr_lib.lessons.recipes import Recipe
from itr_lib.models import ModelConfig, TwoNetworks
from itr_lib.models.teran import TERANConfig
from itr_lib.models.vse import VSEConfig
from itr_lib.objectives import InfoNCEObjective, TripletObjective

# One training. Or two: TGDT's branches and then what stands on top of them, or two networks that are asked as one.
Plan = Recipe | tuple[Recipe, Recipe]
Variants = dict[str, Plan]


def lesson01(profile: str, data: str, seed: int) -> Variants:
    """VSE++ and what lesson 01 changes in it, one thing at a time."""
    base = recipes.vse(profile, data, seed)
    mean = replace(base, model=replace(base.model, pooling="mean"))
    captions_as_they_come = replace(base.training, unique_images=False)
    return {
        "VSE++ (hardest, GPO)": base,
        "all negatives": replace(base, objective=TripletObjective(warmup_epochs=base.training.epochs)),
        "InfoNCE": replace(base, objective=InfoNCEObjective()),
        "mean pooling": mean,
        "mean pooling, InfoNCE": replace(mean, objective=InfoNCEObjective()),
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
    soft = replace(base.model, coding="soft", pooling="lse")
    plain = replace(base.model, drop_regions=0.0, corrupt_words=0.0)
    return {
        "CHAN (hard, lse)": base,
        "soft, lse": replace(base, model=soft),
        "no augmentation": replace(base, model=plain),
    }


def lesson04(profile: str, data: str, seed: int) -> Variants:
    """USER with its queues; what it takes to make them work; and, without queues, what else there is to choose.

    All with positives clamped at 0 as in the paper, except for the course's own recipe, with and without queues.
    """
    course = recipes.user(profile, data, seed)
    base = replace(course, objective=replace(course.objective, floor=0.0))

    def queued(**settings) -> Recipe:
        return replace(base, model=replace(base.model, **settings))

    plain = queued(queue_size=0)

    def batches_of(size: int, group: int | None = None) -> Recipe:
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
        "no queue, no clamp": replace(course, model=plain.model),
    }


def lesson05(profile: str, data: str, seed: int) -> Variants:
    """TGDT and what can be left out of it; and the other models with its encoders."""
    branches, heads = recipes.tgdt_in_turn(profile, data, seed)
    at_once = recipes.tgdt(profile, data, seed)
    joint = replace(at_once, model=replace(at_once.model, detach=False))
    global_only = replace(joint.model, local_weight=0.0)
    paper_loss = replace(heads.objective, temperature=None)
    passes = branches.training.epochs + heads.training.epochs  # over the training data, for every model
    budget = replace(at_once.training, epochs=passes)
    fine = replace(recipes.teran(profile, data, seed), training=budget)
    one_vector = replace(recipes.one_vector(at_once), objective=InfoNCEObjective(), training=budget)
    chan, user = recipes.chan(profile, data, seed), recipes.user(profile, data, seed)
    same = {"region_layers": 1, "text": one_vector.model.text}
    return {
        "TGDT": (branches, heads),
        "longer branches": (replace(branches, training=budget), heads),
        "without intra": (branches, replace(heads, objective=replace(heads.objective, intra_weight=0.0))),
        "hinge": (branches, replace(heads, objective=paper_loss)),
        "at once": at_once,
        "joint": joint,
        "global only": replace(joint, model=global_only, objective=replace(joint.objective, local_weight=0.0)),
        "TERAN": fine,
        "VSE": one_vector,
        "VSE, then TERAN": (one_vector, fine),
        "CHAN": replace(chan, model=replace(chan.model, **same), training=budget),
        "USER": replace(user, model=replace(user.model, **same), training=budget),
    }


@dataclass(frozen=True)
class OnPhotographs:
    """A plan on photographs: what stands for them, and how many of them it learns from.

    Attributes:
        plan: the training.
        features: ``"hand-made"``, ``"EfficientNet"``, ``"CLIP"``, or ``"boxes"``: annotated boxes, pooled.
        photographs: how many to train on; 0: all.
        like_clip: only those photographs that have a CLIP vector, in all splits, so that rows can be compared.
    """

    plan: Plan
    features: str = "EfficientNet"
    photographs: int = 0
    like_clip: bool = False


def lesson06(profile: str, data: str, seed: int) -> dict[str, OnPhotographs]:
    """The ladder: eyes, text, reading and data, one thing at a time; and words that point at annotated boxes.

    Fewer photographs are seen more often, in as many steps up to four times the epochs.
    """
    width, loss = recipes.photograph_width(profile), InfoNCEObjective()
    text = recipes.vse(profile).model.text

    def plan(model: ModelConfig, **training: float) -> Recipe:
        recipe = recipes.on_photographs(profile, model, loss, seed)
        return replace(recipe, training=replace(recipe.training, **training))

    one = plan(VSEConfig(text=text, dim=width, pooling="mean"))
    few = replace(one, training=replace(one.training, epochs=4 * one.training.epochs))
    minilm = replace(one.model, text=TextConfig(pretrained="all-minilm-l6-v2"))
    both = recipes.tgdt_on_photographs(profile, minilm.text, seed)
    fine = TERANConfig(text=minilm.text, dim=width, region_dim=width, joint_layers=0, pooling=both.model.pooling)
    # To point, a word should still be itself, and behind six layers it has heard the whole sentence; and the box that
    # it means should be there. On the 600 photographs to choose by (one seed) 48.4 % of the phrases pointed right with
    # text from scratch, 54.7 % after one layer, 56.2 % after two, and 59.8 % with no box hidden in training.
    words = replace(fine, text=replace(fine.text, first_layers=2))
    pointing = {"drop_regions": 0.0, "batch_size": 128, "epochs": min(4, one.training.epochs)}
    frozen = {"pretrained_rate": 0.0}
    hand = "hand-made"
    return {
        "hand-made features": OnPhotographs(one, hand),
        "EfficientNet": OnPhotographs(one),
        "hand-made features, 1,805": OnPhotographs(one, hand, like_clip=True),
        "EfficientNet, 1,805": OnPhotographs(one, like_clip=True),
        "CLIP, 1,805": OnPhotographs(one, "CLIP", like_clip=True),
        "MiniLM, frozen": OnPhotographs(plan(minilm, **frozen)),
        "TERAN": OnPhotographs(plan(fine, **frozen)),
        "TGDT": OnPhotographs(replace(both, training=replace(both.training, **frozen))),
        "500 photographs": OnPhotographs(few, photographs=500),
        "1,000 photographs": OnPhotographs(few, photographs=1000),
        "Entities": OnPhotographs(plan(words, **frozen, **pointing), "boxes"),
    }


LESSONS: Mapping[str, Callable[[str, str, int], Mapping[str, Plan | OnPhotographs]]] = {
    "01_global_embeddings": lesson01,
    "02_fine_grained_alignment": lesson02,
    "03_hard_alignment": lesson03,
    "04_momentum_queues": lesson04,
    "05_tgdt_cmc": lesson05,
    "06_real_photographs": lesson06,
}


def recipe_of(plan: Plan) -> Recipe:
    """The first training of a plan."""
    return plan if isinstance(plan, Recipe) else plan[0]


def untrained(plan: Plan, data: RetrievalData, tokenizer: PreTrainedTokenizerBase) -> nn.Module:
    """The model of a plan, as it begins."""
    if isinstance(plan, Recipe):
        return plan.build(data, tokenizer)
    first, second = plan
    network = first.build(data, tokenizer)
    return network if first.model == second.model else TwoNetworks(network, second.build(data, tokenizer))
