"""Lesson 04's look at key encoders that follow: what it measures, and that it leaves the training alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from itr_lib.lessons import watch


class Encoder(nn.Module):
    """Images are rows of the identity, captions too, turned by a weight."""

    def __init__(self, turn=0.0):
        super().__init__()
        self.turn = nn.Parameter(torch.tensor(turn))

    def encode_images(self, batch):
        return torch.eye(4)

    def encode_captions(self, batch):
        return torch.cos(self.turn) * torch.eye(4) + torch.sin(self.turn) * torch.eye(4).roll(1, 0)


@pytest.fixture
def seen(monkeypatch):
    monkeypatch.setattr(watch, "image_batch", lambda *_: None)
    monkeypatch.setattr(watch, "caption_batch", lambda *_: None)
    monkeypatch.setattr(watch, "tokenise", lambda *_: None)
    val = SimpleNamespace(image_of_caption=np.repeat(np.arange(4), 2), captions=[""] * 8, __len__=lambda self: 4)
    val = type(
        "Val", (), {"image_of_caption": val.image_of_caption, "captions": val.captions, "__len__": lambda _: 4}
    )()
    lesson = SimpleNamespace(splits=SimpleNamespace(val=val), device="cpu", tokenizer=None, profile="smoke")
    leader = Encoder()
    return leader, watch.KeyWatch(leader, {0.0: leader, 0.9: Encoder(np.pi / 2)}, lesson)


def test_it_looks_at_some_steps_and_leaves_the_mode(seen):
    leader, looks = seen
    leader.train()
    for _ in range(11):
        looks.look()
    assert looks.steps == [0, 5, 10] and leader.training
    assert looks.found[0.0] == [100.0] * 3 and looks.found[0.9] == [0.0] * 3


def test_it_keeps_no_more_vectors_the_longer_a_training_is(seen):
    leader, looks = seen
    for _ in range(5 * 40):
        looks.look()
    assert len(looks.steps) == 40 and max(looks.ages()) == 5 * (watch.OLDEST - 1)
    assert {len(keys) for keys in looks.seen.values()} == {watch.OLDEST}


def test_closeness_and_what_keys_keep(seen):
    leader, looks = seen
    for step in range(30):
        with torch.no_grad():
            leader.turn.fill_(0.01 * step)
        looks.look()
    assert looks.closeness()[0.0] == pytest.approx([1.0] * 6)
    kept = looks.kept()
    assert looks.ages() == [0, 5, 10, 15]
    assert kept[0.0] == pytest.approx([np.cos(0.01 * age) for age in looks.ages()], abs=1e-5)
    assert kept[0.9] == pytest.approx([1.0] * 4)
    assert looks.nearest_age(11) == 10 and looks.nearest_age(256) == 15
    assert looks.at_age(11)[0.0] == pytest.approx(np.cos(0.1), abs=1e-5)
