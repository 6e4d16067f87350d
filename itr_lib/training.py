"""One training loop for every model of the course."""

from __future__ import annotations

import math
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from filelock import FileLock
from torch import Tensor, nn
from tqdm.std import tqdm
from transformers import PreTrainedTokenizerBase

from itr_lib.data.batches import epoch_order, pair_batch
from itr_lib.data.dataset import RetrievalData
from itr_lib.data.tokenisation import tokenise
from itr_lib.inference import evaluate
from itr_lib.objectives.for_training import Objective
from itr_lib.progress import progress_bar
from itr_lib.validation import expect_choice


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Learning rates are AdamW's; a step is one batch.

    A pretrained text model learns at ``pretrained_rate`` times the rate of the rest. The learning rate climbs over
    ``warmup_steps``, stays, and falls to a tenth after ``decay_after`` of the epochs.
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

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError(f"epochs {self.epochs}, batch_size {self.batch_size}: expected at least 1 and at least 2")

    def learning_rate_factor(self, step: int, steps_per_epoch: int) -> float:
        """What the learning rate is multiplied by at ``step``, counted from 0."""
        late = step >= math.ceil(round(self.decay_after * self.epochs, 9)) * steps_per_epoch
        return min(1.0, (step + 1) / max(1, self.warmup_steps)) * (0.1 if late else 1.0)


@dataclass
class History:
    """One entry an epoch: mean training ``loss``, ``rsum`` and R@1 on validation images, ``seconds`` taken."""

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
) -> History:
    """Train ``model`` in place and leave it with the weights of its best epoch on ``val_data``.

    With a ``folder`` the state is written after each epoch, atomically, and a run that was killed goes on from
    there when the same call is made again; on the CPU it ends with the same weights, bit for bit, as a run that
    nobody disturbed (with as many threads). A checkpoint of another model, configuration or data set is refused
    with a ``ValueError``. One process trains; several that share a folder take turns.

    Args:
        model: with ``encode_images``, ``encode_captions`` and ``scores``.
        objective: ``(model, batch, epoch) -> loss``, e.g. :class:`TripletObjective`.
        tokenizer: the model's own.
        train_data: what gradients come from.
        val_data: what the epoch is chosen by; never the split that is reported.
        config: see :class:`TrainConfig`.
        device: ``"cpu"`` or ``"cuda"``.
        folder: where checkpoints go; nowhere by default.
        progress: show a bar.
    """
    expect_choice("device", device, ("cpu", "cuda"))
    tokens = tokenise(tokenizer, train_data.captions)
    steps = len(list(_epoch(train_data, config, 0)))
    label = _fingerprint(model, objective, config, train_data, val_data, tokens, device)
    torch.manual_seed(config.seed)
    run = _Run.start(model, config, steps, device)
    with _training_folder(folder) as checkpoint:
        if checkpoint and checkpoint.exists():
            run.load(checkpoint, label)
        done = len(run.history.epochs)
        with progress_bar(steps * config.epochs, "training", "step", done=steps * done, show=progress) as bar:
            for epoch in range(done, config.epochs):
                started = time.perf_counter()
                loss = run.train_epoch(objective, train_data, tokens, config, epoch, bar)
                metrics = evaluate(run.model, tokenizer, val_data, device=device)
                run.close_epoch(loss, metrics, time.perf_counter() - started)
                bar.set_postfix(loss=f"{loss:.3f}", val_rsum=f"{metrics['rsum']:.0f}")
                if checkpoint:
                    run.save(checkpoint, label)
    model.load_state_dict(run.best)
    model.eval()
    return run.history


@dataclass
class _Run:
    """What a run consists of between two epochs: enough to stop and to go on."""

    accelerator: Accelerator
    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    history: History = field(default_factory=History)
    best: dict[str, Tensor] | None = None

    @classmethod
    def start(cls, model: nn.Module, config: TrainConfig, steps_per_epoch: int, device: str) -> _Run:
        AcceleratorState._reset_state(reset_partial_state=True)  # it is global, and would refuse a second device
        accelerator = Accelerator(cpu=device == "cpu")
        optimizer = torch.optim.AdamW(
            _parameter_groups(model, config), config.learning_rate, weight_decay=config.weight_decay
        )
        model, optimizer = accelerator.prepare(model, optimizer)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: config.learning_rate_factor(step, steps_per_epoch)
        )
        return cls(accelerator, model, optimizer, schedule)

    def train_epoch(self, objective, data, tokens, config: TrainConfig, epoch: int, bar: tqdm) -> float:
        self.model.train()
        losses = []
        for captions in _epoch(data, config, epoch):
            loss = objective(self.model, pair_batch(data, tokens, captions, self.accelerator.device), epoch)
            self.optimizer.zero_grad()
            self.accelerator.backward(loss)
            self.accelerator.clip_grad_norm_(self.model.parameters(), config.clip_norm)
            self.optimizer.step()
            self.schedule.step()
            losses.append(loss.detach())
            bar.update()
        return torch.stack(losses).mean().item()

    def close_epoch(self, loss: float, metrics: dict[str, float], seconds: float) -> None:
        keep = {name: metrics[name] for name in ("rsum", "i2t_r1", "t2i_r1")}
        self.history.epochs.append({"loss": loss, **keep, "seconds": seconds})
        if self.history.best_epoch == len(self.history.epochs) - 1:
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def save(self, path: Path, label: str) -> None:
        state = {
            "label": label,
            "model": self.model.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "history": self.history.epochs,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all(),
        }
        unfinished = path.with_name(f"{path.name}.unfinished")
        with open(unfinished, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)  # the old checkpoint or the new one, never half of either

    def load(self, path: Path, label: str) -> None:
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
            there = state["label"]
        except Exception as error:  # torch raises many kinds for a damaged file
            raise ValueError(f"{path} is no readable checkpoint ({error}); delete it to start again") from error
        if there != label:
            raise ValueError(
                f"{path} was written by another run:\n  there: {there}\n  here:  {label}\n"
                "Give another folder, or delete that file to start again."
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.history.epochs = state["history"]
        device = next(self.model.parameters()).device
        self.best = {name: value.to(device) for name, value in state["best"].items()}
        torch.set_rng_state(state["rng"])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda_rng"])


def _parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict]:
    """What takes gradients, and in a group of its own a pretrained text model."""
    text = getattr(getattr(model, "config", None), "text", None)
    pretrained = list(model.text.bert.parameters()) if text is not None and text.pretrained else []
    known = {id(parameter) for parameter in pretrained}
    groups = [{"params": [p for p in model.parameters() if p.requires_grad and id(p) not in known]}]
    if pretrained:
        groups.append({"params": pretrained, "lr": config.pretrained_rate * config.learning_rate})
    return groups


def _epoch(data: RetrievalData, config: TrainConfig, epoch: int):
    """The epoch's batches depend on seed and epoch alone, so that a resumed run sees the same ones."""
    rng = np.random.default_rng([config.seed, epoch])
    return epoch_order(data.image_of_caption, config.batch_size, rng, config.unique_images)


@contextmanager
def _training_folder(folder: str | Path | None) -> Iterator[Path | None]:
    """The checkpoint's path in a folder that one process has for itself; a second one waits, then finds it done."""
    if folder is None:
        yield None
        return
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        yield folder / "training.pt"


def _fingerprint(model, objective, config, train_data, val_data, tokens, device) -> str:
    """Everything that decides how a run ends, in a line that can be compared and read."""
    arrays = ("features", "boxes", "region_mask", "image_of_caption", "guides")
    data = []
    for split in (train_data, val_data):
        known = [getattr(split, name) for name in arrays if getattr(split, name) is not None]
        data.append(f"{split.name}/{split.split} {len(split)} images #{_checksum([repr(split.captions), *known])}")
    weights = _checksum([value.detach().cpu().double().numpy() for value in model.state_dict().values()])
    how = objective if is_dataclass(objective) else f"{objective.__module__}.{objective.__qualname__}"
    parts = [f"{type(model).__name__} #{weights}", getattr(model, "config", ""), how, config, *data]
    parts += [f"tokens #{_checksum([tokens.ids, tokens.mask])}", device]
    parts += [f"torch {torch.__version__}", f"transformers {transformers.__version__}"]
    return ", ".join(map(str, parts))


def _checksum(parts: list) -> str:
    total = 0
    for part in parts:
        total = zlib.crc32(part.encode() if isinstance(part, str) else np.ascontiguousarray(part), total)
    return f"{total:08x}"
