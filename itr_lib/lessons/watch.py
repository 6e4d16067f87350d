"""Key encoders that follow a training, looked at now and then on validation pairs: what lesson 04 draws."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from itr_lib.data.batches import caption_batch, image_batch
from itr_lib.data.tokenisation import tokenise
from itr_lib.lessons.lesson import Lesson


class KeyWatch:
    """Looks at one caption of every validation image: as the encoder that is trained makes it, and as followers do.

    Attributes:
        every: steps between two looks.
        seen: momentum -> the caption vectors at each look.
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
        self.seen: dict[float, list[Tensor]] = {m: [] for m in followers}
        self.found: dict[float, list[float]] = {m: [] for m in followers}
        self.levels: list[float] = []

    @torch.no_grad()
    def look(self) -> None:
        """Called at every step; looks at some of them."""
        self.step += 1
        if (self.step - 1) % self.every:
            return
        images = self.leader.eval().encode_images(self.images)
        self.levels.append(float((images @ self.leader.encode_captions(self.captions).T).mean()))
        self.leader.train()
        for m, follower in self.followers.items():
            keys = follower.encode_captions(self.captions)
            self.seen[m].append(keys)
            hits = (images @ keys.T).argmax(dim=1).cpu() == torch.arange(len(images))
            self.found[m].append(100 * float(hits.float().mean()))

    @property
    def steps(self) -> list[int]:
        """At which steps it looked."""
        return [self.every * turn for turn in range(len(self.levels))]

    def closeness(self) -> dict[float, list[float]]:
        """Momentum -> at each look, the mean cosine of its captions with those of momentum 0, the encoder's own."""
        return {m: [_cosine(*pair) for pair in zip(keys, self.seen[0.0], strict=True)] for m, keys in self.seen.items()}

    def ages(self) -> list[int]:
        """Ages of keys, in steps, that :meth:`kept` compares."""
        return self.steps[: min(2 * len(self.steps) // 3, 13)]

    def kept(self) -> dict[float, list[float]]:
        """Momentum -> for each age, the mean cosine of keys of that age with those made now, late in the run."""
        late = range(2 * len(self.steps) // 3, len(self.steps))
        return {
            m: [
                float(np.mean([_cosine(keys[now - age], keys[now]) for now in late])) for age in range(len(self.ages()))
            ]
            for m, keys in self.seen.items()
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
        own = self.seen[0.0][-1]
        return _cosine(own, own.roll(1, dims=0))


def _cosine(one: Float[Tensor, "captions dim"], other: Float[Tensor, "captions dim"]) -> float:
    return float((one * other).sum(dim=1).mean())
