"""Key encoders that follow a training, looked at now and then on validation pairs: what lesson 04 draws."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from itr_lib.data.batches import caption_batch, image_batch
from itr_lib.data.tokenisation import tokenise
from itr_lib.lessons.lesson import Lesson

OLDEST = 13  # looks: so many are compared, and of so many the vectors are kept, however long the training is


class KeyWatch:
    """Looks at one caption of every validation image: as the encoder that is trained makes it, and as followers do.

    Attributes:
        every: steps between two looks.
        seen: momentum -> the caption vectors at the last looks, the newest first.
        found: momentum -> R@1 (%) of the encoder's images among them, at each look.
        levels: the mean score of all pairs, at each look.
    """

    def __init__(self, leader: nn.Module, followers: Mapping[float, nn.Module], lesson: Lesson):
        val = lesson.splits.val
        first = np.unique(val.image_of_caption, return_index=True)[1]
        self.images = image_batch(val, np.arange(len(val)), lesson.device)
        self.captions = caption_batch(tokenise(lesson.tokenizer, val.captions), first, lesson.device)
        self.leader, self.followers = leader, followers
        self.every, self.step = 5 if lesson.profile == "smoke" else 25, 0
        self.seen: dict[float, deque[Tensor]] = {m: deque(maxlen=OLDEST) for m in followers}
        self.found: dict[float, list[float]] = {m: [] for m in followers}
        self.levels: list[float] = []
        self._close: dict[float, list[float]] = {m: [] for m in followers}  # to the encoder's own, at each look
        self._kept: dict[float, list[list[float]]] = {m: [] for m in followers}  # with those of each age, at each look

    @torch.no_grad()
    def look(self) -> None:
        """Called at every step; looks at some of them."""
        self.step += 1
        if (self.step - 1) % self.every:
            return
        images = self.leader.eval().encode_images(self.images)
        level = (images @ self.leader.encode_captions(self.captions).T).mean()
        self.leader.train()
        for m, follower in self.followers.items():
            self.seen[m].appendleft(follower.encode_captions(self.captions))
        numbers = [level]
        for keys in self.seen.values():
            hits = (images @ keys[0].T).argmax(dim=1) == torch.arange(len(images), device=images.device)
            numbers += [hits.float().mean(), _cosine(keys[0], self.seen[0.0][0]), *(_cosine(k, keys[0]) for k in keys)]
        self._note(iter(torch.stack(numbers).tolist()))  # one wait for a GPU

    def _note(self, numbers: Iterator[float]) -> None:
        """Keep what a look has found."""
        self.levels.append(next(numbers))
        for m, keys in self.seen.items():
            self.found[m].append(100 * next(numbers))
            self._close[m].append(next(numbers))
            self._kept[m].append(list(islice(numbers, len(keys))))

    @property
    def steps(self) -> list[int]:
        """At which steps it looked."""
        return [self.every * turn for turn in range(len(self.levels))]

    def closeness(self) -> dict[float, list[float]]:
        """Momentum -> at each look, the mean cosine of its captions with those of momentum 0, the encoder's own."""
        return self._close

    def ages(self) -> list[int]:
        """Ages of keys, in steps, that :meth:`kept` compares."""
        return self.steps[: min(2 * len(self.steps) // 3, OLDEST)]

    def kept(self) -> dict[float, list[float]]:
        """Momentum -> for each age, the mean cosine of keys of that age with those made now, late in the run."""
        late = range(2 * len(self.steps) // 3, len(self.steps))
        return {
            m: [float(np.mean([looks[now][age] for now in late])) for age in range(len(self.ages()))]
            for m, looks in self._kept.items()
        }

    def nearest_age(self, age: float) -> int:
        """Of :meth:`ages`, the one that is nearest to ``age`` steps."""
        return min(self.ages(), key=lambda seen: abs(seen - age))

    def at_age(self, age: float) -> dict[float, float]:
        """Momentum -> :meth:`kept` at the nearest age."""
        place = self.ages().index(self.nearest_age(age))
        return {m: values[place] for m, values in self.kept().items()}

    def other_captions(self) -> float:
        """Mean cosine of two different captions, at the last look: what a key that means nothing would have."""
        own = self.seen[0.0][0]
        return float(_cosine(own, own.roll(1, dims=0)))


def _cosine(one: Float[Tensor, "captions dim"], other: Float[Tensor, "captions dim"]) -> Float[Tensor, ""]:
    return (one * other).sum(dim=1).mean()
