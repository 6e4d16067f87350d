"""The loop: it learns, it resumes to the same weights, and it says what does not fit."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import toy_data

from itr_lib import training
from itr_lib.data import train_tokenizer
from itr_lib.encoders.text import TextConfig
from itr_lib.evaluation import retrieval_metrics
from itr_lib.inference import encode, evaluate, score
from itr_lib.models import build, load_model, save_model
from itr_lib.objectives import InfoNCEObjective, TripletObjective, for_training
from itr_lib.training import TrainConfig, train

TRAIN, VAL = toy_data(), toy_data(images=60, split="val")
TOKENIZER = train_tokenizer(TRAIN.captions)
CONFIG = TrainConfig(epochs=3, batch_size=50, warmup_steps=4, learning_rate=2e-3)


def new_model(seed: int = 0, **settings):
    torch.manual_seed(seed)
    return build("vse", feature_dim=16, text=TextConfig(len(TOKENIZER), hidden=32, layers=1), dim=32, **settings)


def fit(model, objective=TripletObjective(), config=CONFIG, **settings):  # noqa: B008
    return train(model, objective, TOKENIZER, TRAIN, VAL, config, progress=False, **settings)


def same(first, second) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("objective", [TripletObjective(), InfoNCEObjective()], ids=["triplet", "info-nce"])
def test_it_learns(objective):
    model = new_model()
    before = evaluate(model, TOKENIZER, VAL)["rsum"]
    history = fit(model, objective)
    assert len(history.epochs) == 3 and evaluate(model, TOKENIZER, VAL)["rsum"] > 2 * before + 50
    assert evaluate(model, TOKENIZER, VAL)["rsum"] == history.epochs[history.best_epoch]["rsum"]


def test_the_same_seed_gives_the_same_weights_and_another_does_not():
    first, again, other = new_model(), new_model(), new_model()
    fit(first), fit(again), fit(other, config=TrainConfig(**{**CONFIG.__dict__, "seed": 1}))
    assert same(first, again) and not same(first, other)


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, monkeypatch):
    undisturbed = new_model()
    history = fit(undisturbed)

    class Stop(Exception):
        pass

    drawn, pair_batch = [], training.pair_batch

    def stop_in_second_epoch(*arguments):
        drawn.append(1)
        if len(drawn) == 17:  # of 12 batches an epoch
            raise Stop
        return pair_batch(*arguments)

    with monkeypatch.context() as patched, pytest.raises(Stop):
        patched.setattr(training, "pair_batch", stop_in_second_epoch)
        fit(new_model(), folder=tmp_path)
    assert len(torch.load(tmp_path / "training.pt", weights_only=True)["history"]) == 1
    resumed = new_model()
    again = fit(resumed, folder=tmp_path)
    assert same(undisturbed, resumed)
    assert [e["loss"] for e in again.epochs] == [e["loss"] for e in history.epochs]


KILLED = """
import sys
from test_training import CONFIG, fit, new_model
from itr_lib.models import save_model
from itr_lib.training import TrainConfig
model = new_model()
print("begins", flush=True)
fit(model, config=TrainConfig(**{**CONFIG.__dict__, "epochs": 6}), folder=sys.argv[1])
save_model(model, sys.argv[2])
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_weights(tmp_path):
    """Slow, 20 to 40 s: real processes are killed with SIGKILL at four random moments, then left to finish."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}

    def start(checkpoints: Path, result: Path) -> subprocess.Popen:
        command = [sys.executable, "-c", KILLED, str(checkpoints), str(result)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "begins\n"
        return process

    began = time.perf_counter()
    assert start(tmp_path / "calm", tmp_path / "undisturbed").wait() == 0
    seconds = time.perf_counter() - began
    seed = int(time.time())
    print("seed of the moments:", seed)
    rng = np.random.default_rng(seed)
    for _ in range(4):
        process = start(tmp_path / "rough", tmp_path / "disturbed")
        time.sleep(rng.uniform(0, 0.35 * seconds))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(tmp_path / "rough", tmp_path / "disturbed").wait() == 0
    assert same(load_model(tmp_path / "undisturbed"), load_model(tmp_path / "disturbed"))


def test_a_finished_run_is_not_trained_again(tmp_path):
    first, second = new_model(), new_model()
    fit(first, folder=tmp_path)
    began = (tmp_path / "training.pt").stat().st_mtime_ns
    fit(second, folder=tmp_path)
    assert same(first, second) and (tmp_path / "training.pt").stat().st_mtime_ns == began


def test_another_runs_checkpoint_is_refused(tmp_path):
    fit(new_model(), folder=tmp_path)
    for model, objective, config in [
        (new_model(), TripletObjective(margin=0.3), CONFIG),
        (new_model(), TripletObjective(), TrainConfig(**{**CONFIG.__dict__, "learning_rate": 1e-3})),
        (new_model(seed=5), TripletObjective(), CONFIG),
        (new_model(dropout=0.3), TripletObjective(), CONFIG),
        (new_model(), a_plain_function, CONFIG),
    ]:
        with pytest.raises(ValueError, match="written by another run"):
            fit(model, objective, config, folder=tmp_path)


def a_plain_function(model, batch, epoch):
    return InfoNCEObjective()(model, batch, epoch)


def test_other_data_of_the_same_size_are_refused(tmp_path, monkeypatch):
    fit(new_model(), folder=tmp_path)
    other = dataclasses.replace(TRAIN, boxes=TRAIN.boxes / 2)
    with pytest.raises(ValueError, match="written by another run"):
        train(new_model(), TripletObjective(), TOKENIZER, other, VAL, CONFIG, progress=False, folder=tmp_path)


@pytest.mark.parametrize("objective", [TripletObjective(), InfoNCEObjective()])
def test_captions_of_one_image_are_masked_unless_told_otherwise(objective):
    tokens = training.tokenise(TOKENIZER, TRAIN.captions)
    batch = training.pair_batch(TRAIN, tokens, np.array([0, 1, 3, 6]))  # 0 and 1 belong to one image
    model = new_model().eval()
    blind = dataclasses.replace(objective, mask_same_image=False)
    assert objective(model, batch, 5) != blind(model, batch, 5)


def test_gradients_are_clipped_and_batches_hold_an_image_once(monkeypatch):
    norms, seen = [], []
    clip = training.clip_grad_norm_
    monkeypatch.setattr(training, "clip_grad_norm_", lambda p, most: norms.append(most) or clip(p, most))

    def watch(model, batch, epoch):
        seen.append(len(batch.image_ids.unique()) == len(batch.image_ids))
        return TripletObjective()(model, batch, epoch)

    fit(new_model(), watch, TrainConfig(epochs=1, batch_size=50, clip_norm=0.5))
    assert set(norms) == {0.5} and all(seen)
    seen.clear()
    fit(new_model(), watch, TrainConfig(epochs=1, batch_size=150, unique_images=False))
    assert not all(seen)


def test_a_damaged_checkpoint_is_named(tmp_path):
    fit(new_model(), folder=tmp_path)
    path = tmp_path / "training.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="training.pt is no readable checkpoint"):
        fit(new_model(), folder=tmp_path)
    torch.save({"weights": 1}, path)
    with pytest.raises(ValueError, match="training.pt is no readable checkpoint"):
        fit(new_model(), folder=tmp_path)


def test_warm_up_epochs_use_all_negatives(monkeypatch):
    used = []
    monkeypatch.setattr(for_training, "triplet_loss", lambda s, *, negatives, **_: used.append(negatives) or s.sum())
    fit(new_model(), TripletObjective(warmup_epochs=2), TrainConfig(epochs=3, batch_size=200))
    assert used == ["all"] * 6 + ["hardest"] * 3


def test_learning_rate_climbs_stays_and_falls():
    config = TrainConfig(epochs=5, warmup_steps=4, decay_after=0.6)
    factors = [config.learning_rate_factor(step, 10) for step in (0, 3, 20, 29, 30, 49)]
    assert factors == [0.25, 1, 1, 1, 0.1, 0.1]


def test_encode_keeps_the_order_of_captions_and_the_models_mode():
    model = new_model().train()
    images, captions = encode(model, TOKENIZER, VAL, batch_size=7)
    assert model.training and len(images) == 60 and len(captions) == 180
    one = VAL.take(np.array([33]))
    assert torch.allclose(encode(model, TOKENIZER, one)[1], captions[99:102], atol=1e-5)
    metrics = retrieval_metrics(score(model, TOKENIZER, VAL), VAL.image_of_caption).as_dict()
    assert metrics == evaluate(model, TOKENIZER, VAL)


def test_saved_and_loaded_models_score_alike(tmp_path):
    model = new_model(pooling="mean", region_layers=0).eval()
    save_model(model, tmp_path)
    assert torch.equal(score(load_model(tmp_path), TOKENIZER, VAL), score(model, TOKENIZER, VAL))
    (tmp_path / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(ValueError, match="does not hold a model"):
        load_model(tmp_path)


def test_unknown_model_or_setting():
    with pytest.raises(ValueError, match="expected one of 'vse'"):
        build("vsepp", feature_dim=4, text=TextConfig(10))
    with pytest.raises(ValueError, match="does not take these settings.*width"):
        build("vse", feature_dim=4, text=TextConfig(10), width=3)
