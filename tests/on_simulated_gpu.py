"""Training steps on the simulated GPU, in a process of their own; test_simulated_gpu.py starts it and judges.

    python tests/on_simulated_gpu.py  # prints JSON

The simulated device has to be there before a process's first backward, and patches torch: so it shares none.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import simulated_gpu
import torch
from toy import toy_data, toy_pictures

from itr_lib.checks import exercise
from itr_lib.checks.device import run_on
from itr_lib.checks.frame import verify
from itr_lib.checks.wrong import WrongAnswer
from itr_lib.data.tokenisation import tokenise, train_tokenizer
from itr_lib.encoders.pooling import GPO
from itr_lib.encoders.text import TextConfig
from itr_lib.guides.clip import zero_shot_scores
from itr_lib.guides.small_clip import SmallClip, train_small_clip
from itr_lib.models import build
from itr_lib.momentum import key_encoder
from itr_lib.objectives import InfoNCEObjective, TripletObjective, TwoLevelObjective, UnifiedObjective
from itr_lib.progress import progress_bar
from itr_lib.training import TrainConfig, _Run

STEPS, PAIRS = 2, 30
DATA = toy_data(STEPS * PAIRS, 1)
rng = np.random.default_rng(0)
DATA = replace(  # sets of all sizes
    DATA,
    region_mask=np.arange(4) < rng.integers(1, 5, (len(DATA.features), 1)),
    captions=tuple(" ".join(caption.split()[: rng.integers(1, 5)]) for caption in DATA.captions),
)
TOKENIZER = train_tokenizer(DATA.captions)
TOKENS = tokenise(TOKENIZER, DATA.captions)
MODELS = {
    "vse": ("vse", {}, TripletObjective(warmup_epochs=0)),
    "vse, InfoNCE": ("vse", {"pooling": "mean"}, InfoNCEObjective()),
    "teran": ("teran", {"region_layers": 1}, TripletObjective(warmup_epochs=0)),
    "chan": ("chan", {}, TripletObjective()),
    "chan, soft": ("chan", {"coding": "soft"}, TripletObjective()),
    "user": ("user", {"queue_size": 48}, UnifiedObjective()),
    "tgdt": ("tgdt", {}, TwoLevelObjective()),
}
MISPLACED = {  # what is left on the CPU: a function that the step calls, and the model whose step
    "the captions' mask": ("teran", "itr_lib.models.teran.words_only"),
    "pooling's weights": ("vse", "itr_lib.encoders.pooling.GPO.weights"),
    "boxes": ("teran", "itr_lib.encoders.regions.box_geometry"),
    "a vector of the whole": ("tgdt", "itr_lib.models.tgdt.l2_normalise"),
    "keys": ("user", "itr_lib.models.user.CaptionEncoder.forward"),
}


def epoch(name: str) -> float:
    """Two epochs on the device, as training runs them, of which the second is counted; the first's mean loss."""
    kind, settings, objective = MODELS[name]
    torch.manual_seed(0)
    text = TextConfig(len(TOKENIZER), hidden=32, layers=1, mask_token=TOKENIZER.mask_token_id)
    model = build(kind, feature_dim=16, text=text, dim=32, **settings).to("cuda")
    config = TrainConfig(1, PAIRS, drop_regions=0.2, drop_features=0.2)
    run = _Run.start(model, config, STEPS, [])
    with progress_bar(STEPS, "", "step", show=False) as bar:
        loss = run.train_epoch(objective, DATA, TOKENS, 0, bar)
        with simulated_gpu.counting() as seen:
            run.train_epoch(objective, DATA, TOKENS, 1, bar)
    counted[name] = {"waits": seen.total(), "where": seen.table(STEPS)}
    return loss


@contextmanager
def left_on_the_cpu(function: str):
    """Inside, what the function returns is on the CPU."""
    owner, _, attribute = function.rpartition(".")
    real = vars(resolve_name(owner))[attribute]
    with mock.patch(function, lambda *args, **kwargs: real(*args, **kwargs).cpu()):
        yield


def says_when_misplaced(name: str, function: str) -> str:
    """The error of an epoch with a tensor on the wrong device; "" where nothing noticed."""
    try:
        with left_on_the_cpu(function):
            epoch(name)
    except (RuntimeError, ValueError) as error:
        return str(error)
    return ""


def places_of_the_cpu(scores: torch.Tensor, image_of_caption: torch.Tensor) -> torch.Tensor:
    """Lesson 00's caption-ranks with ``torch.arange(N)``, which on a CPU is right."""
    own = image_of_caption[None, :] == torch.arange(len(scores))[:, None]
    best = scores.masked_fill(~own, -torch.inf).amax(dim=1, keepdim=True)
    return 1 + ((scores >= best) & ~own).sum(dim=1)


def in_numpy(ranks: torch.Tensor, k: int) -> float:
    """Lesson 00's recall-at-k."""
    return 100 * float((ranks.numpy() <= k).mean())


def told_of(slug: str, answer: Callable, device: str) -> str:
    """What the check says in a lesson that was opened with this device; "" for a right answer."""
    run_on(device)
    try:
        verify(exercise(slug), answer)
    except WrongAnswer as error:
        return str(error)
    return ""


def small_clip_there() -> dict[str, float]:
    """A small CLIP, trained and asked there: how much ran there, how far its cosines are from the CPU's, their size."""
    settings = SmallClip(
        scenes=20, single_steps=2, scene_steps=2, batch_size=8, image_size=32, width=32, image_layers=1, dim=8
    )
    few = toy_pictures(toy_data(6, 1))
    with TemporaryDirectory() as folder:
        with simulated_gpu.counting() as training:
            train_small_clip(Path(folder), 0, settings, progress=False, device="cuda")
        with simulated_gpu.counting() as asking:
            there = zero_shot_scores(few, folder, device="cuda")
        here = zero_shot_scores(few, folder)
    ran = {"training": training.kernels, "asking": asking.kernels}
    return ran | {"apart": float((here - there).abs().max()), "size": float(here.abs().max())}


counted: dict[str, dict] = {}
if __name__ == "__main__":
    simulated_gpu.install()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        losses = {name: epoch(name) for name in MODELS}
        follower = key_encoder(GPO().to("cuda"))  # a copied GRU: cuDNN wants its weights in one block
        follower(torch.rand(2, 3, 4, device="cuda"), torch.ones(2, 3, dtype=torch.bool, device="cuda"))
    said = {what: says_when_misplaced(*where) for what, where in MISPLACED.items()}
    warned = [str(warning.message) for warning in caught]
    answers = {("caption-ranks", places_of_the_cpu), ("recall-at-k", in_numpy)}
    told = {device: {slug: told_of(slug, answer, device) for slug, answer in answers} for device in ("cpu", "cuda")}
    seen = {"losses": losses, "counted": counted, "misplaced": said, "warned": warned, "steps": STEPS, "answers": told}
    print(json.dumps(seen | {"clip": small_clip_there()}))
