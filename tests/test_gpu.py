"""The same on a GPU as on the CPU: scores, gradients, losses, queues, training steps, searches, resumed runs.

`make gpu` runs these where a GPU is, and fails where none is; other runs of the tests skip them there. Numbers are
float32 and float64 of full width (no TF32), so what differs is the order in which sums are taken. Tolerances are some
ten times the rounding of the longest sum, and far below what a forgotten mask, a wrong axis or TF32 (1e-3) would make
of a score.
"""

from __future__ import annotations

import copy
import itertools
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from toy import toy_data

from itr_lib.data.batches import Batch, pair_batch
from itr_lib.data.tokenisation import tokenise, train_tokenizer
from itr_lib.encoders.text import TextConfig
from itr_lib.encoders.tokens import GlobalTokens
from itr_lib.evaluation import ndcg, pair_accuracy, retrieval_metrics, two_stage_metrics
from itr_lib.inference import encode, evaluate, score
from itr_lib.models import build
from itr_lib.momentum import FeatureQueue, key_encoder, momentum_update
from itr_lib.objectives import (
    TripletObjective,
    TwoLevelObjective,
    UnifiedObjective,
    cmc_loss,
    consistency_loss,
    info_nce,
    triplet_loss,
    unified_loss,
    unified_queue_loss,
)
from itr_lib.search import TwoStageIndex
from itr_lib.similarity import alignment_scores, cosine_scores
from itr_lib.training import TrainConfig, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() and os.environ.get("ITR_GPU") != "1", reason="torch sees no GPU here"
    ),
]
ALIGNMENTS = list(itertools.product(("regions", "words", "both"), ("hard", "soft")))
POOLINGS = ("sum", "mean", "max", "lse", "softmax")
# Sums of at most eight numbers of size 1. A 16-bit dot product is rounded to 8 bits once: up to 2^-9 a word, and in
# soft coding the attention at temperature 0.1 makes ten times as much of it, on weights that sum to 1.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.05}


@pytest.fixture(autouse=True)
def full_width():
    """Products of float32 in float32, not in TF32."""
    switches = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = False
    yield
    for switch, value in zip(switches, before, strict=True):
        switch.allow_tf32 = value


def there(value):
    """A copy on the GPU, of named tuples part by part."""
    if isinstance(value, tuple):
        return type(value)(*(there(part) for part in value))
    return value.cuda() if isinstance(value, torch.Tensor) else value


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    assert found.is_cuda and not expected.is_cuda and found.dtype == expected.dtype
    return torch.allclose(found.cpu(), expected, rtol=tolerance, atol=tolerance)


# --- scores and their gradients --------------------------------------------------------------------------------------


def sets(count: int, width: int, dim: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors and a mask with one empty set; large numbers stand in the padding."""
    g = torch.Generator().manual_seed(seed)
    vectors = F.normalize(torch.randn(count, width, dim, generator=g), dim=-1)
    mask = torch.rand(count, width, generator=g) < 0.6
    mask[1] = False
    return vectors.masked_fill(~mask[..., None], 1e3), mask


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, ...]:
    """Regions, words and their masks."""
    (regions, region_mask), (words, word_mask) = sets(24, 9, 32, 0), sets(40, 8, 32, 1)
    return regions, words, region_mask, word_mask


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("attend", "coding"), ALIGNMENTS)
def test_alignment_scores(pair, attend, coding, kind):
    regions, words, *masks = pair
    inputs = regions.to(kind), words.to(kind), *masks
    for pooling, budget in itertools.product(POOLINGS, (None, 20_000)):  # one block, and many
        how = {"attend": attend, "coding": coding, "pooling": pooling}
        found = alignment_scores(*(part.cuda() for part in inputs), **how, memory_budget=budget)
        assert close(found, alignment_scores(*inputs, **how), TOLERANCE[kind]), (pooling, budget)


@pytest.mark.parametrize(("attend", "coding"), ALIGNMENTS)
def test_gradients_of_alignment_scores(pair, attend, coding):
    """In float32: in bfloat16 two regions tie for every tenth word, and each device picks another winner."""
    weight = torch.randn(24, 40, generator=torch.Generator().manual_seed(2)) / 40
    for pooling, budget in itertools.product(POOLINGS, (None, 20_000)):
        grads = []
        for device in ("cpu", "cuda"):
            regions, words, *masks = (part.to(device, copy=True) for part in pair)
            regions, words = regions.requires_grad_(), words.requires_grad_()
            how = {"attend": attend, "coding": coding, "pooling": pooling, "memory_budget": budget}
            (alignment_scores(regions, words, *masks, **how) * weight.to(device)).sum().backward()
            grads.append((regions.grad, words.grad))
        for expected, found in zip(*grads, strict=True):
            assert expected.any() and close(found, expected, 1e-5), (pooling, budget)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=str)
def test_cosine_scores(kind):
    g = torch.Generator().manual_seed(0)
    images, captions = torch.randn(20, 64, generator=g), torch.randn(30, 64, generator=g)
    images[3] = 0
    weight = torch.randn(20, 30, generator=g).to(kind)
    results = []
    for device in ("cpu", "cuda"):
        inputs = [part.to(device, kind, copy=True).requires_grad_() for part in (images, captions)]
        scores = cosine_scores(*inputs)
        (scores * weight.to(device)).sum().backward()
        results.append((scores.detach(), *(part.grad for part in inputs)))
    for expected, found in zip(*results, strict=True):
        assert close(found, expected, TOLERANCE[kind])


# --- losses ----------------------------------------------------------------------------------------------------------

B = 16
SAME = (torch.arange(B)[:, None] // 2) == (torch.arange(B)[None, :] // 2)
LOSSES = {  # of matrices (B, B) or (B, D); masks are made on the device of what comes
    "hinge, hardest": lambda s: triplet_loss(s, same_image=SAME.to(s.device)),
    "hinge, all": lambda s: triplet_loss(s, negatives="all"),
    "InfoNCE": lambda s: info_nce(s, same_image=SAME.to(s.device)),
    "InfoNCE, a learnt temperature": lambda s: info_nce(s, temperature=s.new_tensor(0.1)),
    "unified": lambda s: unified_loss(s, same_image=SAME.to(s.device)),
    "unified, with a floor": lambda s: unified_loss(s, floor=-0.5),
    "consistency": lambda s, t: consistency_loss(s, t),
    "CMC": lambda v, w: cmc_loss(v, w),
    "unified, a queue": lambda v, w, k: unified_queue_loss(v, w, k, negative_mask=SAME.to(v.device)),
    "unified, an empty queue": lambda v, w: unified_queue_loss(v, w, w[:0]),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_their_gradients(name):
    loss, g = LOSSES[name], torch.Generator().manual_seed(0)
    matrices = [F.normalize(torch.randn(B, B, generator=g), dim=1) for _ in range(loss.__code__.co_argcount)]
    results = []
    for device in ("cpu", "cuda"):
        inputs = [part.to(device, copy=True).requires_grad_() for part in matrices]
        value = loss(*inputs)
        value.backward()
        results.append((value.detach(), *(part.grad for part in inputs if part.grad is not None)))
    assert len(results[0]) == len(results[1]) > 1
    for expected, found in zip(*results, strict=True):
        assert expected.any() and close(found, expected, 1e-5)


# --- queues and key encoders -----------------------------------------------------------------------------------------


def test_a_queue_on_the_gpu_holds_the_same():
    rng = np.random.default_rng(0)
    here, gpu = FeatureQueue(7, 3), FeatureQueue(7, 3).cuda()
    for step, size in enumerate([0, 2, 7, 1, 20, 3, 8]):
        keys = torch.from_numpy(rng.normal(size=(size, 3))).float()
        ids = torch.from_numpy(rng.integers(0, 99, size)) if step % 3 else None
        here.enqueue(keys, ids)
        gpu.enqueue(keys.cuda(), ids if step % 2 or ids is None else ids.cuda())  # ids may lie on either
        assert gpu.keys.is_cuda and gpu.ids.is_cuda and len(gpu) == len(here)
        assert torch.equal(gpu.keys.cpu(), here.keys) and torch.equal(gpu.ids.cpu(), here.ids)
        if step == 3:
            restored = FeatureQueue(7, 3).cuda()
            restored.load_state_dict(gpu.state_dict())
            gpu = restored


def test_momentum_update_on_the_gpu():
    torch.manual_seed(0)
    source = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4))
    source(torch.randn(9, 5))
    target = key_encoder(source)
    with torch.no_grad():
        source[0].weight.normal_()
    target_there, source_there = copy.deepcopy(target).cuda(), copy.deepcopy(source).cuda()
    momentum_update(target, source, 0.9)
    momentum_update(target_there, source_there, 0.9)
    for name, value in target.state_dict().items():
        assert close(target_there.state_dict()[name], value, 1e-6), name


# --- models ----------------------------------------------------------------------------------------------------------


def padded(data, seed: int = 0):
    """The toy data with some regions padded, and as wide guides."""
    mask = np.random.default_rng(seed).random(data.region_mask.shape) < 0.7
    mask[:, 0] = True
    features = np.where(mask[..., None], data.features, 0)
    return replace(data, features=features, region_mask=mask, guides=features.sum(axis=1, dtype=np.float32))


TRAIN, VAL = padded(toy_data()), padded(toy_data(images=60, split="val"))
TOKENIZER = train_tokenizer(TRAIN.captions)
TOKENS = tokenise(TOKENIZER, TRAIN.captions)
OBJECTIVES = {
    "vse": TripletObjective(warmup_epochs=0),
    "teran": TripletObjective(),
    "chan": TripletObjective(warmup_epochs=0),
    "user": UnifiedObjective(),
    "tgdt": TwoLevelObjective(),
}
VARIANTS = [("vse", {}), ("vse", {"pooling": "mean", "region_layers": 1}), ("teran", {"region_layers": 1})]
VARIANTS += [("teran", {"pooling": "Symm", "shared": True}), ("chan", {}), ("chan", {"coding": "soft"})]
VARIANTS += [("user", {"queue_size": 48}), ("user", {"guide": "clip", "guide_dim": 16, "queue_size": 48})]
VARIANTS += [("tgdt", {}), ("tgdt", {"detach": False})]
QUIET = {  # nothing is left to chance
    "vse": {"dropout": 0.0},
    "teran": {"dropout": 0.0},
    "chan": {"dropout": 0.0, "drop_regions": 0.0, "corrupt_words": 0.0},
    "user": {"guide_dropout": 0.0, "random_keys": True},
    "tgdt": {"dropout": 0.0},
}
variants = pytest.mark.parametrize(("name", "settings"), VARIANTS, ids=lambda value: str(value))


def new_model(name: str, settings: dict, kind: str = "bert", dropout: float = 0.1):
    torch.manual_seed(0)
    text = TextConfig(
        len(TOKENIZER), hidden=32, layers=1, kind=kind, dropout=dropout, mask_token=TOKENIZER.mask_token_id
    )
    return build(name, feature_dim=16, text=text, dim=32, **settings)


def as_kind(batch: Batch, kind: torch.dtype) -> Batch:
    features, boxes, mask, guide = batch.images
    return batch._replace(
        images=batch.images._replace(features=features.to(kind), boxes=boxes.to(kind), guide=guide.to(kind))
    )


@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)], ids=str)
@variants
def test_a_training_step(name, settings, kind, tolerance):
    """Loss, gradients, and what the step leaves in weights, running means and queues.

    The step is plain gradient descent of rate 1: AdamW divides a gradient by its own size, so that the rounding of one
    that is 0 becomes a whole step. In float64 there is nothing to excuse; in float32 a gradient sums some thousand
    terms, and errors are measured against the model's largest.
    """
    here = new_model(name, QUIET[name] | settings, dropout=0.0).to(kind)
    models = {"cpu": here, "cuda": copy.deepcopy(here).cuda()}
    losses = {}
    for device, model in models.items():
        batch = as_kind(pair_batch(TRAIN, TOKENS, np.arange(30), device), kind)  # three captions of each of ten images
        loss = OBJECTIVES[name](model.train(), batch, 0)
        loss.backward()
        with torch.no_grad():
            for weight in model.parameters():
                if weight.grad is not None:
                    weight -= weight.grad
        losses[device] = loss.detach()
    assert close(losses["cuda"], losses["cpu"], tolerance)
    largest = max(weight.grad.abs().max().item() for weight in here.parameters() if weight.grad is not None)
    for found, expected in zip(models["cuda"].parameters(), here.parameters(), strict=True):
        assert (found.grad is None) == (expected.grad is None)
    for key, expected in here.state_dict().items():
        found = models["cuda"].state_dict()[key]
        assert found.is_cuda and torch.allclose(found.cpu(), expected, rtol=0, atol=tolerance * max(1.0, largest)), key


@variants
def test_encode_and_score(name, settings):
    here = new_model(name, settings).eval()
    gpu = copy.deepcopy(here).cuda()
    for expected, found in zip(encode(here, TOKENIZER, VAL), encode(gpu, TOKENIZER, VAL, device="cuda"), strict=True):
        if isinstance(expected, torch.Tensor):
            assert close(found, expected, 1e-4)
            continue
        assert torch.equal(found.mask.cpu(), expected.mask)
        assert close(found.vectors[found.mask], expected.vectors[expected.mask], 1e-4)  # padding means nothing
        if isinstance(expected, GlobalTokens):
            assert close(found.whole, expected.whole, 1e-4)
    scores = score(gpu, TOKENIZER, VAL, device="cuda")
    assert not scores.is_cuda and torch.allclose(scores, score(here, TOKENIZER, VAL), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("kind", ["bert", "bigru"])
def test_every_model_trains_on_the_gpu(name, kind):
    """With dropout, augmentation and all; the model is left there, with the weights of its best epoch."""
    model = new_model(name, {}, kind)
    config = TrainConfig(epochs=2, batch_size=50, warmup_steps=4, learning_rate=2e-3)
    history = train(model, OBJECTIVES[name], TOKENIZER, TRAIN, VAL, config, device="cuda", progress=False)
    assert all(value.is_cuda and value.isfinite().all() for value in model.state_dict().values())
    assert evaluate(model, TOKENIZER, VAL, device="cuda")["rsum"] == history.epochs[history.best_epoch]["rsum"]


# --- resumed runs ----------------------------------------------------------------------------------------------------


class Stop(Exception):
    """What ends a run in its second epoch."""


class Disturbance:
    """What happens at the first step of the second epoch."""

    now = None


def disturbed_objective(model, batch, epoch):
    if epoch == 1 and Disturbance.now is not None:
        happens, Disturbance.now = Disturbance.now, None
        happens()
    return TripletObjective()(model, batch, epoch)


def fit(happens, folder=None):
    """Two epochs on the GPU with dropout; ``happens`` in between, or nothing. The loss of both, and scores."""
    Disturbance.now = happens
    model = new_model("vse", {})
    config = TrainConfig(epochs=2, batch_size=50, warmup_steps=4, learning_rate=2e-3)
    history = train(
        model, disturbed_objective, TOKENIZER, TRAIN, VAL, config, device="cuda", folder=folder, progress=False
    )
    return [epoch["loss"] for epoch in history.epochs], score(model, TOKENIZER, VAL, device="cuda")


def stop():
    raise Stop


def test_an_interrupted_run_ends_as_an_undisturbed_one(tmp_path):
    """On the CPU bit for bit. A GPU may add up in another order at each run, so here within a thousandth, in scores.

    (Weights that no score depends on, such as the biases of keys, learn from rounding alone.) A run that went on with
    other random numbers, as one does whose generator was forgotten, is ten times as far off.
    """
    losses, scores = fit(None)
    with pytest.raises(Stop):
        fit(stop, tmp_path)
    resumed_losses, resumed = fit(None, tmp_path)
    _, other = fit(lambda: torch.rand(1, device="cuda"))
    assert resumed_losses == pytest.approx(losses, rel=1e-3)
    assert (resumed - scores).abs().max() < 1e-3
    assert (other - scores).abs().max() > 1e-2


# --- searches and metrics --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vse", "tgdt"])
def test_an_index_takes_what_lies_on_the_gpu(name):
    """It keeps its items on the CPU; the same vectors, wherever they come from, are found to the last bit."""
    model = new_model(name, {}).eval()
    images, captions = encode(model, TOKENIZER, VAL)
    found = []
    for items, queries in ((images, captions), (there(images), there(captions)), (images, there(captions))):
        index = TwoStageIndex("images")
        index.add(VAL.image_ids, items)
        found.append(index.query(queries, shortlist=20, top=10))
    for other in found[1:]:
        assert other.ids == found[0].ids and torch.equal(other.scores, found[0].scores)


def test_metrics_of_scores_on_the_gpu():
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(300), 3)
    first, second = (torch.from_numpy(rng.normal(size=(300, 900))).float().round(decimals=1) for _ in range(2))  # ties
    for scores in (first, first.bfloat16(), (10 * first).long()):
        expected = retrieval_metrics(scores, owner)
        for owners in (owner, torch.from_numpy(owner), torch.from_numpy(owner).cuda()):
            assert retrieval_metrics(scores.cuda(), owners) == expected
    staged = two_stage_metrics(first, second, owner, 20, local_weight=0.5)
    assert two_stage_metrics(first.cuda(), second.cuda(), owner, 20, local_weight=0.5) == staged
    assert two_stage_metrics(first.cuda(), second, owner, 20, local_weight=0.5) == staged
    grades = second.relu()
    assert ndcg(first.cuda(), grades) == pytest.approx(ndcg(first, grades), rel=1e-12)
    square = first[:, :300]
    assert pair_accuracy(square.cuda()) == pair_accuracy(square)
