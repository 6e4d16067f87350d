"""One training loop for every model of the course."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from tqdm.std import tqdm
from transformers import PreTrainedTokenizerBase

from itr_lib.checkpoint import (
    checkpoint_path,
    fingerprint,
    load_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
)
from itr_lib.data.augment import seen_in_part
from itr_lib.data.batches import epoch_order, pair_batch, steps_per_epoch
from itr_lib.data.dataset import RetrievalData
from itr_lib.data.tokenisation import TokenisedCaptions, tokenise
from itr_lib.encoders.pretrained import PRECISIONS
from itr_lib.inference import evaluate, expect_contract
from itr_lib.objectives.for_training import Objective
from itr_lib.parallel import average_gradients, gather_objects, my_share, rank, same_weights, together, world
from itr_lib.progress import progress_bar
from itr_lib.trained_parts import captions_read_once, frozen_parts, parameter_groups, pretrained_text, without_gradient
from itr_lib.training_view import TrainingView, looked_at
from itr_lib.transfer import upload
from itr_lib.validation import expect_choice, expect_count, expect_finite

# After how many steps the loop looks whether loss and gradient are finite. Each look makes the host wait for a GPU.
STEPS_BETWEEN_LOOKS = {"cpu": 1, "cuda": 50, "mps": 50}
SEEDS_APART = 100_003  # of the processes of a run, so that no other run of a few seeds draws what one of them draws


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Learning rates are AdamW's; a step is one batch.

    A pretrained text model learns at ``pretrained_rate`` times the rate of the rest; at 0 it is frozen: no gradient,
    no dropout. ``image_rate`` is the same for the backbone of a model that looks at pictures itself, by default that of
    VSE-infinity's released code. The learning rate climbs over ``warmup_steps``, stays, and falls to a tenth after
    ``decay_after`` of the epochs. With the ``precision`` ``"bfloat16"`` encoders compute in 16 bits; weights, scores
    and losses stay float32.
    ``drop_regions`` and ``drop_features`` are shares of what a model does not get to see of an image at a step: where
    pictures are few it learns them by heart otherwise.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    pretrained_rate: float = 0.1
    weight_decay: float = 1e-4
    warmup_steps: int = 50
    decay_after: float = 0.6
    clip_norm: float = 2.0
    unique_images: bool = True
    seed: int = 0
    precision: str = "float32"
    drop_regions: float = 0.0
    drop_features: float = 0.0
    image_rate: float = 0.01

    def __post_init__(self) -> None:
        expect_count("epochs", self.epochs)
        expect_count("batch_size", self.batch_size)
        expect_choice("precision", self.precision, PRECISIONS)
        for name in ("pretrained_rate", "image_rate"):
            expect_finite(name, rate := getattr(self, name))
            if rate < 0:
                raise ValueError(f"{name} is {rate}, expected 0 (frozen) or more")
        if self.batch_size < 2:
            raise ValueError(f"batch_size is {self.batch_size}, expected 2 or more: a pair needs a negative")

    def learning_rate_factor(self, step: int, steps_per_epoch: int) -> float:
        """What the learning rate is multiplied by at ``step``, counted from 0."""
        late = step >= math.ceil(round(self.decay_after * self.epochs, 9)) * steps_per_epoch
        return min(1.0, (step + 1) / max(1, self.warmup_steps)) * (0.1 if late else 1.0)


@dataclass
class History:
    """One entry an epoch: mean training ``loss``, ``rsum`` and R@1 on validation images, ``seconds`` taken.

    The first epoch's seconds hold those of reading captions with a frozen text model.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)

    @property
    def best_epoch(self) -> int:
        """The epoch (from 0) with the highest validation rSum; the first of equals."""
        return int(np.argmax([epoch["rsum"] for epoch in self.epochs]))


def train(
    model: nn.Module,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    train_data: RetrievalData,
    val_data: RetrievalData,
    config: TrainConfig,
    *,
    device: str = "cpu",
    folder: str | Path | None = None,
    progress: bool = True,
    label: str = "training",
) -> History:
    """Train ``model`` in place and leave it with the weights of its best epoch on ``val_data``.

    With a ``folder`` the state is written after each epoch, atomically, and a run that was killed goes on from
    there when the same call is made again; on the CPU it ends with the same weights, bit for bit, as a run that
    nobody disturbed (with as many threads). Several runs that share a folder take turns. Processes of one launcher
    (``torchrun``) train together, see :mod:`itr_lib.parallel`: ``batch_size`` is that of the whole batch.

    Args:
        model: with ``encode_images``, ``encode_captions`` and ``scores``; with a ``backbone``, its data are pictures.
        objective: ``(model, batch, epoch) -> loss``, e.g. :class:`itr_lib.objectives.TripletObjective`.
        tokenizer: the model's own.
        train_data: what gradients come from.
        val_data: what the epoch is chosen by; never the split that is reported.
        config: see :class:`TrainConfig`.
        device: ``"cpu"``, ``"cuda"`` or ``"mps"``.
        folder: where checkpoints go; nowhere by default.
        progress: show a bar.
        label: what the bar calls this training.

    Raises:
        ValueError: for another device, a model that lacks a method or whose wrapper hides it, or a checkpoint of
            another model, configuration or data set; with a folder, for an objective that is neither a dataclass nor
            a function.
        FloatingPointError: when a loss or its gradient is not finite; it names the first such step and its images.
            The model is then not to be used (a GPU may be up to 50 steps further, with NaN in its weights, and on
            either device a queue may hold the batch); the checkpoint of the last whole epoch stays good.
    """
    expect_choice("device", device, tuple(STEPS_BETWEEN_LOOKS))
    expect_contract(model)
    tokens, val_tokens = tokenise(tokenizer, train_data.captions), tokenise(tokenizer, val_data.captions)
    frozen = frozen_parts(model, config.pretrained_rate, config.image_rate)
    steps = steps_per_epoch(train_data.image_of_caption, config.batch_size, config.unique_images)
    with together(device), without_gradient(frozen):
        same_weights(model.to(device))
        identity = ""
        if folder is not None:
            identity = fingerprint(model, objective, config, (train_data, val_data), tokens, device)
        torch.manual_seed(config.seed + SEEDS_APART * rank())
        run = _Run.start(model, config, steps, frozen)
        with checkpoint_path(folder) as checkpoint:
            if checkpoint and checkpoint.exists():
                run.restore(load_checkpoint(checkpoint, identity))
            done, show = len(run.history.epochs), progress and rank() == 0
            started, reading = time.perf_counter(), nullcontext()
            if not config.pretrained_rate and pretrained_text(model) and done < config.epochs:
                reading = captions_read_once(model, tokens, config.precision, progress=show)
            with reading, progress_bar(steps * config.epochs, label, "step", done=steps * done, show=show) as bar:
                for epoch in range(done, config.epochs):
                    loss = run.train_epoch(objective, train_data, tokens, epoch, bar)
                    metrics = evaluate(model, tokenizer, val_data, device=device, tokens=val_tokens)
                    run.close_epoch(loss, metrics, time.perf_counter() - started)
                    bar.set_postfix(loss=f"{loss:.3f}", val_rsum=f"{metrics['rsum']:.0f}")
                    if checkpoint:
                        save_checkpoint(checkpoint, identity, run.state())
                    started = time.perf_counter()
    model.load_state_dict(run.best)
    model.eval()
    return run.history


@dataclass
class _Run:
    """What a run consists of between two epochs: enough to stop and to go on. ``frozen``: parts of the model."""

    model: nn.Module
    config: TrainConfig
    frozen: list[nn.Module]
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    history: History = field(default_factory=History)
    best: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def start(cls, model: nn.Module, config: TrainConfig, steps: int, frozen: list[nn.Module]) -> _Run:
        groups = parameter_groups(model, config.learning_rate, config.pretrained_rate, config.image_rate)
        optimizer = torch.optim.AdamW(groups, config.learning_rate, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: config.learning_rate_factor(step, steps))
        return cls(model, config, frozen, optimizer, schedule)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def train_epoch(
        self, objective: Objective, data: RetrievalData, tokens: TokenisedCaptions, epoch: int, bar: tqdm
    ) -> float:
        """One pass over the captions; the mean of its losses."""
        config, look_every = self.config, STEPS_BETWEEN_LOOKS[self.device.type]
        # The order depends on seed and epoch alone, so that a resumed run sees the same batches.
        rng = np.random.default_rng([config.seed, epoch])
        batches = list(epoch_order(data.image_of_caption, config.batch_size, rng, config.unique_images))
        losses, norms = [], []
        self.model.train()
        for part in self.frozen:
            part.eval()
        for step, captions in enumerate(batches):
            loss = self.loss_of(captions, objective, data, tokens, epoch)
            self.optimizer.zero_grad()
            loss.backward()
            average_gradients(self.model)
            norms.append(clip_grad_norm_(self.model.parameters(), config.clip_norm))
            losses.append(loss.detach())
            if (step + 1) % look_every == 0 or step + 1 == len(batches):
                _expect_finite(losses, norms, batches, data, epoch, step - step % look_every)
            self.optimizer.step()
            self.schedule.step()
            bar.update()
        return torch.stack(losses).mean().item()

    def loss_of(
        self,
        captions: Int[np.ndarray, " batch"],
        objective: Objective,
        data: RetrievalData,
        tokens: TokenisedCaptions,
        epoch: int,
    ) -> Tensor:
        """The loss of a whole batch, of which this process may encode only its share."""
        plain = self.config.precision == "float32" and world() == 1
        view = self.model if plain else TrainingView(self.model, self.config.precision, len(captions))
        share = looked_at(self.model, pair_batch(data, tokens, my_share(captions), self.device), self.config.precision)
        share = seen_in_part(share, self.config.drop_regions, self.config.drop_features)
        whole = upload(torch.from_numpy(data.image_of_caption[captions]), self.device)
        return objective(view, share._replace(image_ids=whole), epoch)

    def close_epoch(self, loss: float, metrics: dict[str, float], seconds: float) -> None:
        keep = {name: metrics[name] for name in ("rsum", "i2t_r1", "t2i_r1")}
        self.history.epochs.append({"loss": loss, **keep, "seconds": seconds})
        if self.history.best_epoch == len(self.history.epochs) - 1:
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def state(self) -> dict:
        return {
            "model": self.model.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "history": self.history.epochs,
            "random": gather_objects(random_state(self.device)),
        }

    def restore(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.history.epochs = state["history"]
        self.best = {name: value.to(self.device) for name, value in state["best"].items()}
        set_random_state(state["random"][rank()], self.device)


def _expect_finite(
    losses: list[Tensor],
    norms: list[Tensor],
    batches: list[Int[np.ndarray, "_"]],
    data: RetrievalData,
    epoch: int,
    start: int,
) -> None:
    """Raise ``FloatingPointError`` for the first step from ``start`` whose loss or gradient is not finite."""
    for step, numbers in enumerate(torch.stack([*losses[start:], *norms[start:]]).view(2, -1).T.tolist(), start):
        if all(map(math.isfinite, numbers)):
            continue
        rows = data.image_of_caption[batches[step]]
        broken = [data.image_ids[row] for row in rows if not np.isfinite(data.features[row]).all()]
        raise FloatingPointError(
            f"epoch {epoch}, step {step} (both from 0): loss {numbers[0]}, norm of its gradient {numbers[1]}."
            f" Images of the batch: {', '.join(data.image_ids[row] for row in rows)}."
            + (f" Not finite are the features of: {', '.join(broken)}." if broken else "")
        )
