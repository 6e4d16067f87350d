"""The loop: it learns, it resumes to the same weights, and it says what does not fit."""

from __future__ import annotations

import dataclasses
import functools
import math
import multiprocessing
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import toy_data
from transformers import (
    BertConfig,
    BertModel,
    CLIPTextConfig,
    CLIPTextModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
)

from itr_lib import checkpoint, inference, training
from itr_lib.data import tokenise, train_tokenizer
from itr_lib.data.batches import epoch_order
from itr_lib.encoders.text import TextConfig
from itr_lib.evaluation import retrieval_metrics
from itr_lib.inference import encode, evaluate, score
from itr_lib.models import build, load_model, save_model
from itr_lib.objectives import (
    InfoNCEObjective,
    TripletObjective,
    TwoLevelObjective,
    UnifiedObjective,
    for_training,
)
from itr_lib.trained_parts import parameter_groups
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


KILLS, LONG_EPOCHS = 20, 30


def killed_run(begins, checkpoints: Path, result: Path) -> None:
    """What the process does that is killed."""
    model = new_model()
    begins.set()
    fit(model, config=TrainConfig(**{**CONFIG.__dict__, "epochs": LONG_EPOCHS}), folder=checkpoints)
    save_model(model, result)


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_weights(tmp_path):
    """Slow, about 30 s: real processes are killed with SIGKILL at 20 random moments, then one is left to finish."""
    context = multiprocessing.get_context("forkserver")  # imports once what every process needs, and trains nothing
    context.set_forkserver_preload(["itr_lib.training", "itr_lib.models"])

    def start(checkpoints: str, result: str) -> multiprocessing.Process:
        begins = context.Event()
        process = context.Process(target=killed_run, args=(begins, tmp_path / checkpoints, tmp_path / result))
        process.start()
        assert begins.wait(120)
        return process

    def end(process: multiprocessing.Process) -> int:
        process.join()
        return process.exitcode

    calm = start("calm", "undisturbed")
    began = time.perf_counter()
    assert end(calm) == 0
    seconds = time.perf_counter() - began
    seed = int(time.time())
    print("seed of the moments:", seed)
    rng = np.random.default_rng(seed)
    for _ in range(KILLS):  # most lose what they did since an epoch ended, some end one or two
        process = start("rough", "disturbed")
        time.sleep(rng.uniform(0, 1.5 * seconds / LONG_EPOCHS))
        process.kill()
        assert end(process) == -signal.SIGKILL
    assert (tmp_path / "rough" / "training.pt").exists() and not (tmp_path / "disturbed").exists()
    assert end(start("rough", "disturbed")) == 0
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


def test_a_wrapper_that_hides_the_encoders_is_refused_before_anything_is_computed():
    """As DistributedDataParallel does, which this loop has no use for."""
    with pytest.raises(ValueError, match="model is a DataParallel, expected encode_images.*pass its .module"):
        fit(torch.nn.DataParallel(new_model()))
    with pytest.raises(ValueError, match="model is a Linear, expected encode_images, encode_captions and scores$"):
        fit(torch.nn.Linear(2, 2))


def test_a_cpu_run_asks_nothing_of_gpus_and_an_older_checkpoint_is_refused(tmp_path, monkeypatch):
    """It used to keep the generators of all GPUs that were visible, and to stop where fewer were."""

    def never(*_):
        raise AssertionError("a run on the CPU asks for a GPU's generator")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("get_rng_state", "get_rng_state_all", "set_rng_state", "set_rng_state_all"):
        monkeypatch.setattr(torch.cuda, name, never)
    short = dataclasses.replace(CONFIG, epochs=1)
    fit(new_model(), config=short, folder=tmp_path)
    fit(new_model(), config=short, folder=tmp_path)
    path = tmp_path / "training.pt"
    kept = torch.load(path, weights_only=True)
    assert [list(process) for process in kept["random"]] == [["cpu"]]
    torch.save(kept | {"label": kept["label"].removeprefix(f"{checkpoint.FORMAT}, "), "cuda_rng": []}, path)
    with pytest.raises(ValueError, match="written by another run"):
        fit(new_model(), config=short, folder=tmp_path)


def test_of_many_gpus_only_the_runs_own_generator_is_kept(monkeypatch):
    gpus, second = [torch.tensor([7]), torch.tensor([8])], torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: gpus[device.index].clone())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: gpus.__setitem__(device.index, state))
    kept = checkpoint.random_state(second)
    assert kept["cuda"].tolist() == [8]
    gpus[:], drawn = [torch.tensor([1])], torch.rand(3)  # now there is one
    checkpoint.set_random_state(kept, torch.device("cuda", 0))
    assert gpus[0].tolist() == [8] and torch.equal(torch.rand(3), drawn)


def test_data_are_read_for_a_label_only_where_a_folder_asks_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "fingerprint", lambda *_: pytest.fail("nobody asked"))
    short = dataclasses.replace(CONFIG, epochs=1)
    fit(new_model(), config=short)
    with pytest.raises(pytest.fail.Exception):
        fit(new_model(), config=short, folder=tmp_path)


def test_a_loss_with_hidden_settings_is_refused_where_a_folder_would_have_to_know_them(tmp_path):
    triplet = TripletObjective()
    hidden = functools.partial(lambda margin, *batch: triplet(*batch), 0.3)
    short = dataclasses.replace(CONFIG, epochs=1)
    with pytest.raises(ValueError, match="objective is a partial, expected a dataclass or a function"):
        fit(new_model(), hidden, config=short, folder=tmp_path)


def test_captions_are_tokenised_once_a_run(monkeypatch):
    seen = []
    for module in (training, inference):
        monkeypatch.setattr(module, "tokenise", lambda _, captions: seen.append(captions) or tokenise(_, captions))
    history = fit(new_model())
    assert len(history.epochs) == 3 and seen == [TRAIN.captions, VAL.captions]


# --- a loss that is not finite ----------------------------------------------------------------------------------------

FEW, SHORT = toy_data(images=80), TrainConfig(epochs=2, batch_size=27)
OBJECTIVES = {
    "triplet": ("vse", TripletObjective()),
    "info-nce": ("vse", InfoNCEObjective()),
    "unified": ("user", UnifiedObjective()),
    "two-level": ("tgdt", TwoLevelObjective()),
}


def model_for(kind: str):
    torch.manual_seed(0)
    text = TextConfig(len(TOKENIZER), hidden=32, layers=1)
    extra = {"user": {"queue_size": 40}, "tgdt": {"region_dim": 32, "feed_forward": 64}}.get(OBJECTIVES[kind][0], {})
    return build(OBJECTIVES[kind][0], feature_dim=16, text=text, dim=32, **extra)


def stumble(kind: str, model, objective=None, data=None, **settings):
    return train(
        model, objective or OBJECTIVES[kind][1], TOKENIZER, data or FEW, FEW, SHORT, progress=False, **settings
    )


def images_of(epoch: int) -> list[np.ndarray]:
    """The images of an epoch's nine batches."""
    return [
        FEW.image_of_caption[rows] for rows in epoch_order(FEW.image_of_caption, 27, np.random.default_rng([0, epoch]))
    ]


def weights(model) -> list[torch.Tensor]:
    return [value.detach().clone() for value in model.parameters() if value.requires_grad]


def nan_at(epoch: int, step: int, kind: str, seen: list):
    """An objective whose loss is NaN at one step; ``seen``: the weights that each step began with."""

    def objective(model, batch, now):
        seen.append((now, weights(model)))
        loss = OBJECTIVES[kind][1](model, batch, now)
        return loss * math.nan if [e for e, _ in seen].count(epoch) == step + 1 and now == epoch else loss

    return objective


@pytest.mark.parametrize(("between_looks", "steps"), [(1, 6), (4, 8), (50, 9)])
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(kind, between_looks, steps, monkeypatch):
    """However late the loop looks, as on a GPU, the first such step is named; on the CPU nothing is learnt from it."""
    monkeypatch.setitem(training.STEPS_BETWEEN_LOOKS, "cpu", between_looks)
    seen, model = [], model_for(kind)
    with pytest.raises(FloatingPointError, match=r"epoch 0, step 5 \(both from 0\): loss nan, norm .* nan") as caught:
        stumble(kind, model, nan_at(0, 5, kind, seen))
    assert f"Images of the batch: {', '.join(FEW.image_ids[i] for i in images_of(0)[5])}." in str(caught.value)
    assert len(seen) == steps
    untouched = all(torch.equal(a, b) for a, b in zip(seen[5][1], weights(model), strict=True))
    assert untouched == (between_looks == 1)


@pytest.mark.parametrize("between_looks", [1, 50])
def test_what_was_saved_before_it_stays_good(between_looks, tmp_path, monkeypatch):
    monkeypatch.setitem(training.STEPS_BETWEEN_LOOKS, "cpu", between_looks)
    seen, resumed, undisturbed = [], model_for("unified"), model_for("unified")
    objective = nan_at(1, 2, "unified", seen)
    with pytest.raises(FloatingPointError, match="epoch 1, step 2 "):
        stumble("unified", model_for("unified"), objective, folder=tmp_path)
    assert len(stumble("unified", resumed, objective, folder=tmp_path).epochs) == 2  # no second NaN: it counts on
    stumble("unified", undisturbed)
    assert same(resumed, undisturbed)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_nan_among_the_features_is_found_and_its_image_named(kind):
    features = FEW.features.copy()
    features[[17, 70], 2, 5] = np.nan
    step = next(i for i, rows in enumerate(images_of(0)) if {17, 70} & set(rows))
    names = ", ".join(str(row) for row in images_of(0)[step] if row in (17, 70))
    with pytest.raises(
        FloatingPointError, match=rf"epoch 0, step {step} .* Not finite are the features of: {names}\.$"
    ):
        stumble(kind, model_for(kind), data=dataclasses.replace(FEW, features=features))


@pytest.mark.parametrize(
    ("bad", "said"), [(lambda p: p * math.inf, "loss inf"), (lambda p: (p * 0).sqrt(), "loss -?\\d")]
)
def test_an_infinite_loss_and_a_gradient_that_is_not_finite(bad, said):
    """The root of 0 has a value and no gradient: the weights would be lost all the same."""
    model = new_model()
    first = next(p for p in model.parameters() if (p > 0).any())

    def objective(model, batch, epoch):
        return TripletObjective()(model, batch, epoch) + bad(first[first > 0][0])

    before = weights(model)
    with pytest.raises(FloatingPointError, match=rf"epoch 0, step 0 .*{said}.*norm of its gradient (nan|inf)"):
        fit(model, objective)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))


# --- settings ---------------------------------------------------------------------------------------------------------


def test_warm_up_epochs_use_all_negatives(monkeypatch):
    used = []
    monkeypatch.setattr(for_training, "triplet_loss", lambda s, *, negatives, **_: used.append(negatives) or s.sum())
    fit(new_model(), TripletObjective(warmup_epochs=2), TrainConfig(epochs=3, batch_size=200))
    assert used == ["all"] * 6 + ["hardest"] * 3


def test_learning_rate_climbs_stays_and_falls():
    config = TrainConfig(epochs=5, warmup_steps=4, decay_after=0.6)
    factors = [config.learning_rate_factor(step, 10) for step in (0, 3, 20, 29, 30, 49)]
    assert factors == [0.25, 1, 1, 1, 0.1, 0.1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs is 0, expected a whole number of 1 or more"),
        ({"epochs": 2.5}, "epochs is 2.5, expected a whole number"),
        ({"epochs": 1, "batch_size": 1}, "batch_size is 1, expected 2 or more"),
    ],
)
def test_settings_that_will_not_do(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


def test_encode_keeps_the_order_of_captions_and_the_models_mode():
    model = new_model().train()
    images, captions = encode(model, TOKENIZER, VAL, batch_size=7)
    assert model.training and len(images) == 60 and len(captions) == 180
    one = VAL.take(np.array([33]))
    assert torch.allclose(encode(model, TOKENIZER, one)[1], captions[99:102], atol=1e-5)
    tokens = tokenise(TOKENIZER, VAL.captions)
    for given, made in zip(encode(model, TOKENIZER, VAL, tokens=tokens), encode(model, TOKENIZER, VAL), strict=True):
        assert torch.equal(given, made)
    with pytest.raises(ValueError, match="tokens holds 179 captions, expected the split's 180"):
        encode(model, TOKENIZER, VAL, tokens=type(tokens)(tokens.ids[1:], tokens.mask[1:]))
    metrics = retrieval_metrics(score(model, TOKENIZER, VAL), VAL.image_of_caption).as_dict()
    assert metrics == evaluate(model, TOKENIZER, VAL)


def test_saved_and_loaded_models_score_alike(tmp_path):
    model = new_model(pooling="mean", region_layers=0).eval()
    save_model(model, tmp_path)
    assert torch.equal(score(load_model(tmp_path), TOKENIZER, VAL), score(model, TOKENIZER, VAL))
    with pytest.raises(ValueError, match="expected the split's"):
        score(model, TOKENIZER, VAL, tokens=tokenise(TOKENIZER, TRAIN.captions))
    (tmp_path / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(ValueError, match="does not hold a model"):
        load_model(tmp_path)


def test_a_path_and_numpys_numbers_can_be_saved(tmp_path):
    """Both train; what trains must not fail when it is saved."""
    new_model().text.bert.save_pretrained(tmp_path / "bert")
    text = TextConfig(np.int64(len(TOKENIZER)), pretrained=tmp_path / "bert", first_layers=np.int32(1))
    model = build("vse", feature_dim=np.int64(16), text=text, dim=np.arange(33)[-1], dropout=np.float32(0.25)).eval()
    save_model(model, tmp_path / "vse")
    loaded = load_model(tmp_path / "vse")
    assert loaded.config == model.config and type(loaded.config.text.pretrained) is str
    assert torch.equal(score(loaded, TOKENIZER, VAL), score(model, TOKENIZER, VAL))
    for name, setting in [("vse", "pooling"), ("teran", "pooling"), ("chan", "coding"), ("user", "guide")]:
        with pytest.raises(ValueError, match=f"{setting} is .*Path"):
            build(name, feature_dim=4, text=TextConfig(10, mask_token=4), **{setting: Path("gpo")})


SIZES = {"vocab_size": 200, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT_MODELS = {
    "bert": lambda: BertModel(BertConfig(**SIZES, hidden_size=16, intermediate_size=32)),
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(vocab_size=200, dim=16, n_layers=2, n_heads=2, hidden_dim=32)
    ),
    "gpt-2": lambda: GPT2Model(GPT2Config(vocab_size=200, n_embd=16, n_layer=2, n_head=2)),
    "clip's text side": lambda: CLIPTextModel(
        CLIPTextConfig(**SIZES, hidden_size=16, intermediate_size=32, bos_token_id=2, eos_token_id=3, pad_token_id=0)
    ),
}


@pytest.mark.parametrize("text_model", TEXT_MODELS)
@pytest.mark.parametrize("name", ["vse", "teran", "chan", "user", "tgdt"])
def test_a_pretrained_text_model_of_any_kind_learns_at_a_rate_of_its_own(name, text_model, tmp_path):
    TEXT_MODELS[text_model]().save_pretrained(tmp_path)
    text = TextConfig(len(TOKENIZER), pretrained=tmp_path, first_layers=1, mask_token=4)
    model = build(name, feature_dim=16, text=text, dim=32)
    rest, pretrained = parameter_groups(model, learning_rate=0.5, pretrained_rate=0.1)
    names = {id(p): n for n, p in model.named_parameters()}
    found = [[names[id(p)] for p in group["params"]] for group in (rest, pretrained)]
    assert pretrained["lr"] == pytest.approx(0.05) and "lr" not in rest
    assert sorted(found[0] + found[1]) == sorted(n for n, p in model.named_parameters() if p.requires_grad)
    where = {"user": "caption_encoder.text.bert.", "tgdt": "local.text.bert."}.get(name, "text.bert.")
    assert found[1] and all(n.startswith(where) for n in found[1]) and not any(n.startswith(where) for n in found[0])
    history = fit(model, config=TrainConfig(1, batch_size=300))
    assert math.isfinite(history.epochs[0]["loss"])


def test_unknown_model_or_setting():
    with pytest.raises(ValueError, match="expected one of 'vse'"):
        build("vsepp", feature_dim=4, text=TextConfig(10))
    with pytest.raises(ValueError, match="does not take these settings.*width"):
        build("vse", feature_dim=4, text=TextConfig(10), width=3)
