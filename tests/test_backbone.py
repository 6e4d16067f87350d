"""Models that look at pictures themselves: pixels to regions, gradients back, and what may not reach the pixels."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from test_pretrained import FAMILIES, needs
from test_train import SMALL, photographs
from toy import OBJECTIVES, toy_data, toy_network, toy_pictures

from data_scripts import evaluate, extract_features, extraction, train
from itr_lib import training
from itr_lib.data import pixels, train_tokenizer
from itr_lib.data.augment import seen_in_part
from itr_lib.data.batches import image_batch
from itr_lib.data.pixels import with_pixels
from itr_lib.encoders import backbone as backbone_module
from itr_lib.encoders.backbone import Backbone, BackboneConfig
from itr_lib.encoders.pretrained import load_image_encoder
from itr_lib.encoders.text import TextConfig
from itr_lib.inference import score
from itr_lib.models import build, load_model, save_model
from itr_lib.objectives import InfoNCEObjective
from itr_lib.trained_parts import parameter_groups
from itr_lib.training import TrainConfig
from itr_lib.training import train as fit

TRAIN, VAL = toy_pictures(toy_data(images=24, captions=1)), toy_pictures(toy_data(images=10, captions=1, split="val"))
TOKENIZER = train_tokenizer(TRAIN.captions)
CONFIG = TrainConfig(epochs=1, batch_size=12, warmup_steps=1)


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> str:
    return toy_network(tmp_path_factory.mktemp("network"))


@pytest.fixture
def eyes(network) -> Backbone:
    return Backbone(BackboneConfig(network, grid=2))


def new_model(name: str, eyes: Backbone | None, feature_dim: int = 16, **settings):
    torch.manual_seed(0)
    text = TextConfig(len(TOKENIZER), hidden=32, layers=1, mask_token=TOKENIZER.mask_token_id)
    model = build(name, feature_dim=feature_dim, text=text, dim=32, **settings)
    if eyes is not None:
        model.backbone = eyes
    return model


def learn(model, objective, data, **settings):
    """One epoch; ``data``: what makes the model's data of a split."""
    config = dataclasses.replace(CONFIG, **settings)
    return fit(model, objective, TOKENIZER, data(TRAIN), data(VAL), config, progress=False)


def extracted(network: str, split):
    """Features as ``extract_features`` makes them, but for its 16 bits."""
    encoder, all_of_it = load_image_encoder(network), [split.picture(row) for row in range(len(split))]
    made = extraction.of_grid(encoder.encode, 2)([], encoder.prepare(all_of_it))
    return dataclasses.replace(split, features=made.features, boxes=made.boxes, region_mask=made.mask)


def state(model) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


# --- pixels -----------------------------------------------------------------------------------------------------------


def test_pixels_are_those_of_the_squashed_picture():
    data = with_pixels(TRAIN, (8, 10), Image.Resampling.BICUBIC)
    assert data.features.shape == (24, 1, 240) and data.region_mask.all() and (data.boxes == [0, 0, 1, 1]).all()
    for row in (0, 23):
        expected = np.asarray(TRAIN.picture(row).resize((10, 8), Image.Resampling.BICUBIC), np.float32)
        assert np.array_equal(data.features[row, 0].reshape(8, 10, 3), expected)
    part = data.take([5, 2])
    assert np.array_equal(image_batch(part, np.array([1])).features[0], data.features[2])
    with pytest.raises(ValueError, match="'toy'/'train' was loaded without pictures"):
        with_pixels(toy_data(images=3), (8, 10), 3)


@pytest.mark.parametrize("room", [2**31, 0])
def test_pictures_are_decoded_once_where_there_is_room(room, monkeypatch):
    monkeypatch.setattr(pixels, "KEPT_BYTES", room)
    opened = []
    data = dataclasses.replace(TRAIN, open_picture=lambda row: opened.append(row) or TRAIN.picture(row))
    data = with_pixels(data, (8, 8), 3)
    first, again = data.features[[3, 1]], data.features[[1, 3]]
    assert np.array_equal(first, again[::-1])
    assert sorted(opened) == ([1, 3] if room else [1, 1, 3, 3])


# --- regions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_regions_are_those_that_are_extracted(family, tmp_path):
    """A grid of 3 x 3 over maps of 2 x 2 and 4 x 4: parts of cells count by their area."""
    make, processor, side = FAMILIES[family]
    torch.manual_seed(0)
    make().eval().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    encoder, some = load_image_encoder(tmp_path), [TRAIN.picture(row) for row in range(3)]
    expected = extraction.of_grid(encoder.encode, 3)([], encoder.prepare(some))
    eyes = Backbone(BackboneConfig(tmp_path, grid=3))
    with torch.no_grad():
        seen = eyes(image_batch(eyes.pictures(TRAIN), np.arange(3)))
        cells = encoder(some).cells.permute(0, 3, 1, 2)
    assert np.allclose(seen.features, expected.features, atol=2e-5)
    assert np.array_equal(seen.boxes, expected.boxes) and seen.mask.shape == (3, 10) and seen.mask.all()
    whole_cells = F.adaptive_avg_pool2d(cells, 3).flatten(2).mT  # as torch pools, which of 2 cells makes the same
    assert np.allclose(whole_cells, expected.features[:, 1:], atol=1e-4) == (side == 2)
    assert eyes.width == encoder(some).whole.shape[1]


def test_a_grid_of_0_is_the_whole_picture_alone(network, eyes):
    alone = Backbone(BackboneConfig(network, grid=0))
    batch = image_batch(eyes.pictures(TRAIN), np.arange(4))
    assert torch.equal(alone(batch).features, eyes(batch).features[:, :1])
    with pytest.raises(ValueError, match="grid is -1"):
        BackboneConfig(network, grid=-1)


def test_a_picture_is_seen_alike_in_any_batch(eyes):
    batch = image_batch(eyes.train().pictures(TRAIN), np.arange(24))
    alone = batch._replace(features=batch.features[3:4])
    with torch.no_grad():
        assert torch.allclose(eyes(batch).features[3], eyes(alone).features[0], atol=1e-5)
        for part in eyes.modules():
            part.training = True  # what train() would do: statistics of the batch
        assert not torch.allclose(eyes(batch).features[3], eyes(alone).features[0], atol=1e-2)


def test_many_pictures_are_seen_a_few_at_a_time(eyes, monkeypatch):
    """To the same regions and gradients; what the network keeps for its backward is that of a few."""
    batch, found = image_batch(eyes.pictures(TRAIN), np.arange(11)), []
    for at_once in (32, 4):
        monkeypatch.setattr(backbone_module, "AT_ONCE", at_once)
        rows = []
        hook = eyes.network.register_forward_hook(lambda _, given, __, rows=rows: rows.append(len(given[0])))
        eyes.zero_grad()
        regions = eyes(batch).features
        (regions * torch.linspace(-1, 1, regions.numel()).view_as(regions)).sum().backward()
        hook.remove()
        found.append((regions.detach(), [weight.grad.clone() for weight in eyes.parameters()]))
        assert sorted(rows) == ([11] if at_once == 32 else [3, 3, 4, 4, 4, 4]), "forward, and again backward"
    assert torch.allclose(found[0][0], found[1][0], atol=1e-6)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_what_is_not_its_pictures_is_refused(eyes):
    batch = image_batch(TRAIN, np.arange(3))
    with pytest.raises(
        ValueError, match="4 regions of 16 numbers, .* looks at 32 x 32 pixels: give it what backbone.p"
    ):
        eyes(batch)


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_network_learns_at_its_own_rate_and_not_at_0(name, network):
    """Its statistics stay in either case, it looks once a step, and its first steps are as large as its rate says."""
    for rate in (0.1, 0.0):
        eyes = Backbone(BackboneConfig(network, grid=2))
        model, before, looks = new_model(name, eyes), state(eyes), []
        others = {key: value for key, value in state(model).items() if not key.startswith("backbone.")}
        eyes.network.register_forward_hook(
            lambda part, *_, looks=looks, model=model: looks.append(part.training) if model.training else None
        )
        history = learn(model, OBJECTIVES[name], eyes.pictures, image_rate=rate, learning_rate=1e-3, weight_decay=0.0)
        assert looks == [False, False] and np.isfinite(history.epochs[0]["loss"])
        moved = {key: (value - before[key]).abs().max() for key, value in eyes.state_dict().items()}
        weights = {key for key, _ in eyes.named_parameters()}
        assert all(moved[key] == 0 for key in moved.keys() - weights), "running statistics"
        if rate:
            assert all(0 < moved[key] < 2.1e-4 for key in weights), moved  # AdamW's first steps are its rate
        else:
            assert not any(moved[key] for key in weights) and all(w.grad is None for w in eyes.parameters())
        assert any(not torch.equal(value, model.state_dict()[key]) for key, value in others.items())


def test_all_weights_are_moved_once(eyes):
    model = new_model("vse", eyes, learnt_temperature=True)
    rest, own, temperature = parameter_groups(model, 1e-3, 0.1, 0.02)
    assert own["lr"] == pytest.approx(2e-5) and len(own["params"]) == len(list(eyes.parameters()))
    given = [id(weight) for group in (rest, own, temperature) for weight in group["params"]]
    assert sorted(given) == sorted(id(weight) for weight in model.parameters())
    with pytest.raises(ValueError, match="image_rate is -1, expected 0"):
        TrainConfig(1, image_rate=-1)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_frozen_it_trains_as_extracted_features_do(name, network, eyes, monkeypatch):
    """With regions and features hidden at random: the same weights. With pixels hidden instead: others."""
    hidden = {"drop_regions": 0.3, "drop_features": 0.5, "image_rate": 0.0}
    with_features, with_pictures, wrong = new_model(name, None), new_model(name, eyes), new_model(name, eyes)
    learn(with_features, OBJECTIVES[name], lambda split: extracted(network, split), **hidden)
    learn(with_pictures, OBJECTIVES[name], eyes.pictures, **hidden)
    look = training.looked_at
    monkeypatch.setattr(training, "looked_at", lambda model, batch, how: look(model, seen_in_part(batch, 0, 0.5), how))
    monkeypatch.setattr(training, "seen_in_part", lambda batch, regions, features: batch)
    learn(wrong, OBJECTIVES[name], eyes.pictures, **hidden)
    furthest = {"with pictures": 0.0, "wrong": 0.0}
    for key, value in with_features.state_dict().items():
        for what, model in (("with pictures", with_pictures), ("wrong", wrong)):
            away = (model.state_dict()[key].float() - value.float()).abs().max().item()
            furthest[what] = max(furthest[what], away)
    assert furthest["with pictures"] < 1e-4 < 1e-3 < furthest["wrong"]


def test_in_bfloat16_the_network_computes_and_its_weights_stay(eyes):
    inside, model = set(), new_model("vse", eyes)
    for part in eyes.modules():
        if isinstance(part, torch.nn.Conv2d):
            part.register_forward_hook(lambda part, _, answer: inside.add(answer.dtype) if model.training else None)

    def objective(model, batch, epoch):
        assert batch.images.features.dtype == torch.float32 and batch.images.features.requires_grad
        return InfoNCEObjective()(model, batch, epoch)

    before = state(eyes)
    learn(model, objective, eyes.pictures, precision="bfloat16")
    assert inside == {torch.bfloat16} and {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert all(not torch.equal(value, before[key]) for key, value in eyes.named_parameters())


def test_a_killed_run_goes_on_to_the_same_weights(network, tmp_path):
    stop = [True]

    def stopping(model, batch, epoch):
        if epoch == 1 and stop:
            stop.clear()
            raise KeyboardInterrupt
        return InfoNCEObjective()(model, batch, epoch)

    def run(objective, **more):
        eyes = Backbone(BackboneConfig(network, grid=2))
        model, config = new_model("vse", eyes), dataclasses.replace(CONFIG, epochs=2, image_rate=0.1)
        fit(model, objective, TOKENIZER, eyes.pictures(TRAIN), eyes.pictures(VAL), config, progress=False, **more)
        return state(model)

    whole = run(InfoNCEObjective())
    with pytest.raises(KeyboardInterrupt):
        run(stopping, folder=tmp_path)
    parts = run(stopping, folder=tmp_path)
    assert all(torch.equal(value, parts[key]) for key, value in whole.items()) and whole.keys() == parts.keys()
    other = Backbone(BackboneConfig(network, grid=3))
    with pytest.raises(ValueError, match="was written by another run"):
        rest = TOKENIZER, other.pictures(TRAIN), other.pictures(VAL)
        fit(new_model("vse", other), stopping, *rest, dataclasses.replace(CONFIG, epochs=2), folder=tmp_path)


# --- on disk ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["clip", "vit", "resnet", "efficientnet-lite0"])
def test_a_saved_model_needs_nothing_else(family, network, tmp_path):
    """Its network is a folder that other commands take; what was never trained is not in it, and comes back alike."""
    source, saved = tmp_path / "source", tmp_path / "saved"
    if family == "resnet":
        source = Path(network)
    elif family == "efficientnet-lite0":
        needs(family)
        source = family
    else:
        make, processor, _ = FAMILIES[family]
        model = make()
        weights = {key: value for key, value in model.state_dict().items() if not key.startswith("pooler.")}
        model.save_pretrained(source, state_dict=weights)
        processor.save_pretrained(source)
    eyes, again = (Backbone(BackboneConfig(source, grid=2)) for _ in range(2))
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in eyes.state_dict().items())
    model = new_model("vse", eyes, feature_dim=eyes.width).eval()
    with torch.no_grad():
        for weight in eyes.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    save_model(model, saved)
    save_model(model, saved)
    loaded, data = load_model(saved), eyes.pictures(VAL)
    assert loaded.backbone.config.grid == 2 and not any(part.training for part in loaded.modules())
    assert torch.equal(score(loaded, TOKENIZER, data), score(model, TOKENIZER, data))
    some = [VAL.picture(row) for row in range(2)]
    with torch.no_grad():
        regions = eyes(image_batch(data, np.arange(2))).features
    whole = load_image_encoder(saved / "backbone")(some).whole
    torch.testing.assert_close(whole, regions[:, 0], rtol=1e-3, atol=1e-4)
    next((saved / "backbone").glob("*.safetensors")).unlink()
    with pytest.raises(ValueError, match="does not hold a model written by save_model"):
        load_model(saved)


# --- commands ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(network, tmp_path_factory):
    """Photographs, one of them damaged, and a run on them."""
    home = tmp_path_factory.mktemp("home")
    for split, count in (("train", 20), ("val", 6), ("test", 8)):
        photographs(home, split, count)
    (home / "images" / "train3.png").write_bytes(b"no picture")
    np.savez(home / "regions.npz", filenames=["train1.png"], features=np.ones((1, 2, 3), np.float16))  # not to be read
    words = ["--model", "vse", "--data", "toy", "--root", str(home), "--pictures", network, "--grid", "2"]
    assert train.main([*words, "--out", str(home / "run"), *SMALL, "--set", "training.image_rate=0.1"]) == 0
    return home / "run"


def test_train_looks_at_pictures_and_evaluate_too(run, network, tmp_path, capsys):
    settings, card = (run / "settings.toml").read_text(), (run / "README.md").read_text()
    assert 'regions = "pixels"' in settings and "train_images = 19" in settings and "feature_dim = 16" in settings
    assert "at most 5 regions of 16 numbers, the whole picture and 2 x 2 parts of it" in card
    assert "learnt at 0.1 times the rate of the rest" in card and "It takes pictures" in card
    assert f"--pictures {network} --grid 2" in card
    first, tuned = (Backbone(BackboneConfig(name)).state_dict() for name in (network, run / "backbone"))
    assert any(not torch.equal(value, tuned[key]) for key, value in first.items())
    words = ["--run", str(run), "--data", "toy", "--device", "cpu", "--json", str(tmp_path / "x.json"), "--root"]
    assert evaluate.main([*words, str(run.parent)]) == 0
    found = json.loads((tmp_path / "x.json").read_text())
    assert found == json.loads((run / "metrics.json").read_text())["reported"] and found["images"] == 8
    photographs(tmp_path / "new", "test", 8)
    (tmp_path / "new" / "images").rename(tmp_path / "pictures")
    assert evaluate.main([*words, str(tmp_path / "new"), "--images", str(tmp_path / "pictures")]) == 0
    assert json.loads((tmp_path / "x.json").read_text()) == found
    capsys.readouterr()
    assert evaluate.main([*words, str(tmp_path / "new")]) == 1
    assert "loaded without pictures" in capsys.readouterr().err
    assert evaluate.main([*words, str(run.parent), "--features", "regions.npz"]) == 1
    assert "looks at pictures itself: leave --features out" in capsys.readouterr().err


def test_features_of_the_tuned_network_can_be_extracted(run, tmp_path):
    made = ["--model", str(run / "backbone"), "--regions", "grid", "--grid", "2", "--device", "cpu", "--workers", "0"]
    images = tmp_path / "images"
    images.mkdir()
    Image.open(run.parent / "images" / "test1.png").save(images / "test1.png")
    assert extract_features.main(["--images", str(images), "--out", str(tmp_path / "out"), *made]) == 0
    stored = np.load(tmp_path / "out" / "00000.features.npy")
    eyes = load_model(run).backbone
    data = dataclasses.replace(TRAIN.take([0]), open_picture=lambda _: Image.open(images / "test1.png").convert("RGB"))
    with torch.no_grad():
        seen = eyes(image_batch(eyes.pictures(data), np.array([0]))).features.numpy()
    assert np.allclose(stored, seen, rtol=0.02, atol=0.01)


@pytest.mark.parametrize(("more", "said"), [(["--features", "x.npz"], "leave --features out"), ([], "than entities")])
def test_what_does_not_go_with_pictures_is_said(more, said, network, tmp_path, capsys):
    data = "toy" if more else "entities"
    words = ["--model", "vse", "--data", data, "--out", str(tmp_path / "run"), "--pictures", network, *more]
    with contextlib.suppress(SystemExit):
        train.main(words)
    assert said in capsys.readouterr().err and not (tmp_path / "run").exists()
