"""What of a model a training moves and in which numbers: frozen text, bfloat16 encoders, a learnt temperature."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from toy import OBJECTIVES, toy_data
from transformers import BertConfig, BertModel

from itr_lib.data import tokenise, train_tokenizer
from itr_lib.data.batches import caption_batch, pair_batch
from itr_lib.encoders import known_states
from itr_lib.encoders.known_states import KnownStates, can_be_kept
from itr_lib.encoders.text import TextConfig, TextEncoder
from itr_lib.models import build, load_model, save_model
from itr_lib.objectives import InfoNCEObjective, info_nce
from itr_lib.trained_parts import parameter_groups, pretrained_text, without_gradient
from itr_lib.training import TrainConfig, train

TRAIN, VAL = toy_data(images=60), toy_data(images=30, split="val")
TOKENIZER = train_tokenizer(TRAIN.captions)
CONFIG = TrainConfig(epochs=1, batch_size=20, warmup_steps=2)


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> str:
    """A folder with a small text model, as pretrained ones come: with dropout."""
    folder = tmp_path_factory.mktemp("bert")
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(TOKENIZER), **sizes)).save_pretrained(folder)
    return str(folder)


def new_model(name: str, pretrained: str | None = None, **settings):
    torch.manual_seed(0)
    text = TextConfig(len(TOKENIZER), hidden=32, layers=1, pretrained=pretrained, mask_token=TOKENIZER.mask_token_id)
    return build(name, feature_dim=16, text=text, dim=32, **settings)


def fit(model, objective, **settings):
    config = dataclasses.replace(CONFIG, **settings)
    return train(model, objective, TOKENIZER, TRAIN, VAL, config, progress=False)


# --- frozen text ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OBJECTIVES)
def test_at_a_rate_of_0_pretrained_text_is_frozen(name, bert):
    """Its answers carry no graph and no dropout, its copies that make keys likewise, and all else is trained."""
    model, answers = new_model(name, bert), []
    before = {key: value.clone() for key, value in model.state_dict().items()}
    texts = pretrained_text(model)
    assert len(texts) == (2 if name == "user" else 1)
    inside = {part for text in texts for part in text.modules()}
    for text in texts:
        text.register_forward_hook(lambda text, _, answer: answers.append((text.training, answer[0].requires_grad)))

    def objective(model, batch, epoch):
        assert {part.training for part in set(model.modules()) - inside} == {True}
        return OBJECTIVES[name](model, batch, epoch)

    fit(model, objective, pretrained_rate=0.0)
    assert set(answers) == {(False, False)}
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved and not any(".bert." in key for key in moved)
    assert all(weight.grad is None for weight in texts[0].parameters())
    fit(model, OBJECTIVES[name], pretrained_rate=0.1)  # nothing of it stays: the same model can be tuned afterwards
    assert any(".bert." in key for key, value in model.state_dict().items() if not torch.equal(value, before[key]))


def test_the_optimizer_keeps_nothing_of_what_is_frozen(bert):
    model = new_model("vse", bert)
    text = pretrained_text(model)
    first = next(text[0].parameters())
    first.grad = torch.ones_like(first)  # of an earlier training
    with without_gradient(text):
        given = [weight for group in parameter_groups(model, 1e-3, 0.0) for weight in group["params"]]
        assert not {id(w) for w in given} & {id(w) for w in text[0].parameters()}
        assert len(given) + len(list(text[0].parameters())) == len(list(model.parameters()))
        assert all(weight.grad is None for weight in text[0].parameters())
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_frozen_text_is_read_once_and_says_the_same(name, bert, monkeypatch):
    """Over three epochs the text model reads each caption once, and weights end as if it had read every time."""
    read, ends = {}, {}
    for kept in (True, False):
        if not kept:
            monkeypatch.setattr(known_states, "AT_MOST", 0)
        model, read[kept] = new_model(name, bert), 0
        encoder = next(part for part in model.modules() if isinstance(part, TextEncoder))

        def count(text, _, answer, kept=kept, model=model):
            read[kept] += len(answer[0]) if model.training else 0

        encoder.bert.register_forward_hook(count)
        fit(model, OBJECTIVES[name], pretrained_rate=0.0, epochs=3)
        ends[kept] = model.state_dict()
        assert encoder.known is None
    captions = len(TRAIN.captions)
    every_time = name == "chan"  # words of its captions are masked anew at every step
    assert read == {True: (4 if every_time else 1) * captions, False: 3 * captions}
    for key, value in ends[True].items():
        torch.testing.assert_close(value, ends[False][key], rtol=0, atol=2e-5)


def test_states_are_found_by_the_words_however_they_are_padded(bert):
    model, tokens = new_model("vse", bert).eval(), tokenise(TOKENIZER, TRAIN.captions)
    known = KnownStates(model.text.states, tokens, progress=False)
    batch = caption_batch(tokens, np.array([7, 3, 3, 50]))
    wider = [torch.nn.functional.pad(part, (0, 5)) for part in batch]
    for ids, mask in (batch, wider):
        expected = model.text.states(ids, mask)
        torch.testing.assert_close(known.find(ids, mask)[mask], expected[mask], rtol=0, atol=1e-5)
    ids = batch.ids.clone()
    ids[2, 1] = TOKENIZER.unk_token_id
    assert known.find(ids, batch.mask) is None  # a caption that was never read
    assert can_be_kept(tokens, 16) and not can_be_kept(tokens, 2**30)
    assert not can_be_kept(tokens._replace(mask=np.pad(tokens.mask, ((0, 0), (1, 0)))), 16)  # padded on the left


def test_a_killed_run_with_frozen_text_goes_on_to_the_same_weights(bert, tmp_path):
    stop = [True]

    def stopping(model, batch, epoch):
        if epoch == 1 and stop:
            stop.clear()
            raise KeyboardInterrupt
        return OBJECTIVES["vse"](model, batch, epoch)

    whole, parts = new_model("vse", bert), new_model("vse", bert)
    config = dataclasses.replace(CONFIG, epochs=3, pretrained_rate=0.0, precision="bfloat16")
    rest = TOKENIZER, TRAIN, VAL, config
    train(whole, OBJECTIVES["vse"], *rest, progress=False)
    with pytest.raises(KeyboardInterrupt):
        train(parts, stopping, *rest, folder=tmp_path, progress=False)
    assert parts.text.known is None
    parts = new_model("vse", bert)
    train(parts, stopping, *rest, folder=tmp_path, progress=False)
    assert all(torch.equal(value, parts.state_dict()[key]) for key, value in whole.state_dict().items())


def test_a_negative_rate_and_another_precision_are_refused():
    with pytest.raises(ValueError, match=r"pretrained_rate is -0.1, expected 0 \(frozen\) or more"):
        TrainConfig(1, pretrained_rate=-0.1)
    with pytest.raises(ValueError, match="precision is 'float16', expected one of 'float32', 'bfloat16'"):
        TrainConfig(1, precision="float16")


# --- bfloat16 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OBJECTIVES)
def test_in_bfloat16_encoders_compute_and_the_rest_stays_float32(name):
    inside, outside = set(), set()

    def objective(model, batch, epoch):
        images = model.encode_images(batch.images)
        outside.update(part.dtype for part in (images if isinstance(images, tuple) else (images,)))
        loss = OBJECTIVES[name](model, batch, epoch)
        outside.add(loss.dtype)
        return loss

    losses = []
    for precision in ("float32", "bfloat16"):
        model = new_model(name)
        if precision == "bfloat16":
            for part in model.modules():
                if isinstance(part, torch.nn.Linear):
                    part.register_forward_hook(lambda part, _, answer: inside.add(answer.dtype))
        how = objective if precision == "bfloat16" else OBJECTIVES[name]
        losses.append(fit(model, how, precision=precision).epochs[0]["loss"])
        assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert torch.bfloat16 in inside
    assert outside <= {torch.float32, torch.bool}
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.1)


# --- temperature ------------------------------------------------------------------------------------------------------


def batch_of(rows: int):
    return pair_batch(TRAIN, tokenise(TOKENIZER, TRAIN.captions), torch.arange(rows).numpy())


def test_a_learnt_temperature_is_what_scores_are_divided_by_and_learns():
    model, batch = new_model("vse", learnt_temperature=True).eval(), batch_of(12)
    scores = model.scores(model.encode_images(batch.images), model.encode_captions(batch.captions)).detach()

    def plainly(log_scale: float) -> float:
        return info_nce(scores.double(), temperature=math.exp(-log_scale), same_image=batch.same_image).item()

    loss, first = InfoNCEObjective(temperature=None)(model, batch, 0), math.log(1 / 0.07)
    assert loss.item() == pytest.approx(plainly(first), rel=1e-5)
    loss.backward()
    slope = (plainly(first + 1e-4) - plainly(first - 1e-4)) / 2e-4
    assert model.log_scale.grad.item() == pytest.approx(slope, rel=1e-3)
    fit(model, InfoNCEObjective(temperature=None))
    assert model.log_scale.item() != pytest.approx(first, abs=1e-4)


def test_a_temperature_stays_at_least_a_hundredth_and_can_come_back():
    model = new_model("vse", learnt_temperature=True).eval()
    with torch.no_grad():
        model.log_scale.fill_(9.0)
    InfoNCEObjective(temperature=None)(model, batch_of(12), 0).backward()
    assert model.temperature.item() == pytest.approx(0.01) and model.log_scale.item() == pytest.approx(math.log(100))
    assert model.log_scale.grad.item() > 0  # a new model is wrong, which costs the more the larger its scores


def test_nothing_draws_a_temperature_to_1():
    model = new_model("vse", learnt_temperature=True)
    (own,) = [
        group for group in parameter_groups(model, 1e-3, 0.1) if any(p is model.log_scale for p in group["params"])
    ]
    assert own["weight_decay"] == 0 and len(own["params"]) == 1


def test_a_temperature_is_saved_with_the_model(tmp_path):
    model = new_model("vse", learnt_temperature=True)
    with torch.no_grad():
        model.log_scale.fill_(3.0)
    save_model(model, tmp_path)
    assert load_model(tmp_path).temperature.item() == pytest.approx(math.exp(-3))


@pytest.mark.parametrize("name", ["vse", "chan"])  # CHAN's own setting of that name is its attention's
def test_without_a_learnt_temperature_one_must_be_given(name):
    with pytest.raises(ValueError, match="temperature is None, expected a number, or a model with learnt_temperature"):
        fit(new_model(name), InfoNCEObjective(temperature=None))
