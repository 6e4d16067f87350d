"""Train, go on, evaluate: the commands on a data set small enough to learn in a second."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy import toy_data
from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

from data_scripts import evaluate, extract_features, settings, ship_model, train
from data_scripts.evaluate import measure
from itr_lib import training
from itr_lib.data import load_folder, load_tokenizer, train_tokenizer
from itr_lib.encoders.text import TextConfig
from itr_lib.inference import evaluate as metrics_of
from itr_lib.inference import score
from itr_lib.models import build, load_model

SMALL = ["--epochs", "2", "--device", "cpu"]
LEARNT = ("text.pretrained=none", "text.hidden=32", "text.layers=1", "training.precision=float32")
for tiny in (
    "model.dim=32",
    *LEARNT,
    "training.batch_size=50",
    "training.warmup_steps=4",
    "training.learning_rate=1e-3",
):
    SMALL += ["--set", tiny]
TINY_TGDT = ["--set", "model.region_dim=32", "--set", "model.feed_forward=32"]


def karpathy(folder: Path, sizes: dict[str, int], width: int | None = None) -> Path:
    """Toy data as a folder in Karpathy's format, without pictures; ``width`` cuts the features."""
    folder.mkdir(parents=True, exist_ok=True)
    images, features = [], []
    for split, count in sizes.items():
        data = toy_data(images=count, split=split)
        features.append(data.features[..., :width])
        for image in range(count):
            sentences = [{"raw": caption} for caption in data.captions_of(image)]
            images.append({"filename": f"{split}{image}.jpg", "split": split, "sentences": sentences})
    (folder / "dataset_toy.json").write_text(json.dumps({"dataset": "toy", "images": images}))
    names = [image["filename"] for image in images]
    np.savez(folder / "regions.npz", filenames=names, features=np.concatenate(features))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return karpathy(tmp_path_factory.mktemp("toy"), {"train": 100, "val": 30, "test": 40})


def command(root: Path, out: Path, *more: str, model: str = "vse") -> list[str]:
    return ["--model", model, "--data", "toy", "--root", str(root), "--out", str(out), *SMALL, *more]


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A finished run."""
    out = tmp_path_factory.mktemp("runs") / "vse"
    assert train.main(command(folder, out)) == 0
    return out


def metrics(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


def files(run: Path) -> set[str]:
    return {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()} - {".lock"}


def test_a_run_has_all_its_files_and_names_no_folder_of_this_machine(run, folder):
    assert files(run) == {
        *("config.json", "model.safetensors", "metrics.json", "settings.toml", "README.md", "training.pt"),
        *("tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"),
    }
    for name in files(run) - {"model.safetensors", "training.pt"}:
        text = (run / name).read_text()
        assert str(run.parent) not in text and str(folder) not in text, name


def test_a_model_that_is_shipped_has_half_the_bytes_and_is_measured_like_a_run(
    run, folder, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "model"
    ship_model.main(["--run", str(run), "--out", str(out)])
    whole, half = load_model(run).state_dict(), load_model(out).state_dict()
    assert all(torch.equal(half[name], value.half().float()) for name, value in whole.items())
    assert (out / "model.safetensors").stat().st_size < 0.6 * (run / "model.safetensors").stat().st_size
    words = [
        "--run",
        str(out),
        "--data",
        "toy",
        "--root",
        str(folder),
        "--device",
        "cpu",
        "--json",
        str(tmp_path / "j"),
    ]
    assert evaluate.main(words) == 0
    assert "rsum" in (tmp_path / "j").read_text()
    monkeypatch.setattr(ship_model, "MOST_BYTES", 1000)
    with pytest.raises(SystemExit, match="2"):
        ship_model.main(["--run", str(run), "--out", str(tmp_path / "other")])
    assert "expected at most" in capsys.readouterr().err and not (tmp_path / "other").exists()


def test_metrics_are_those_of_the_saved_model(run, folder):
    test = load_folder("toy", folder)["test"]
    model, tokenizer = load_model(run), load_tokenizer(run / "tokenizer")
    scores = score(model, tokenizer, test).numpy()
    own = scores[test.image_of_caption, np.arange(len(test.captions))]
    ranks = [1 + sum(scores[i, c] >= own[c] for i in range(40) if i != test.image_of_caption[c]) for c in range(120)]
    said = metrics(run)
    assert said["reported"]["metrics"]["t2i_r1"] == pytest.approx(100 * np.mean(np.array(ranks) == 1))
    assert (said["reported"]["split"], said["reported"]["images"], said["reported"]["captions"]) == ("test", 40, 120)
    assert said["chosen"]["split"] == "val" and len(said["epochs"]) == 2
    assert said["chosen"]["rsum"] == max(epoch["rsum"] for epoch in said["epochs"])
    assert said["machine"]["torch"] == torch.__version__ and said["machine"]["threads"] == torch.get_num_threads()
    assert said["parameters"] == sum(parameter.numel() for parameter in model.parameters())


def test_the_card_says_how_it_was_made_and_measured(run):
    card = (run / "README.md").read_text()
    assert "python -m data_scripts.train --model vse --preset small --data toy --out RUN --root FOLDER" in card
    assert "--set training.batch_size=50" in card and "--set training.epochs=2" in card
    assert "100 images trained on" in card and "Licence of the data: not known here" in card
    assert "40 images and 120 captions as one gallery" in card
    assert f"{metrics(run)['reported']['metrics']['rsum']:.1f}" in card
    settings = (run / "settings.toml").read_text()
    assert "batch_size = 50" in card and "batch_size = 50" in settings and "feature_dim = 16" in settings


@pytest.mark.parametrize("model", ["vse", "tgdt"])
def test_evaluate_finds_what_train_reported(model, folder, tmp_path, capsys):
    more = TINY_TGDT if model == "tgdt" else []
    assert train.main(command(folder, tmp_path / "run", *more, model=model)) == 0
    capsys.readouterr()
    words = ["--run", str(tmp_path / "run"), "--data", "toy", "--root", str(folder), "--json", str(tmp_path / "x.json")]
    assert evaluate.main(words) == 0
    found, reported = json.loads((tmp_path / "x.json").read_text()), metrics(tmp_path / "run")["reported"]
    assert found == reported and ("two_stages" in found) == (model == "tgdt")
    said = capsys.readouterr().out
    assert f"{found['metrics']['rsum']:.1f}" in said and "toy/test: 40 images and 120 captions as one gallery" in said
    assert ("two stages, shortlist 50" in said) == ("global reading alone" in said) == (model == "tgdt")


def test_the_other_split_and_a_shortlist(folder, tmp_path, capsys):
    assert train.main(command(folder, tmp_path / "run", *TINY_TGDT, model="tgdt")) == 0
    out = tmp_path / "val.json"
    words = ["--run", str(tmp_path / "run"), "--data", "toy", "--root", str(folder), "--split", "val"]
    assert evaluate.main([*words, "--shortlist", "1000", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert (found["split"], found["images"]) == ("val", 30)
    all_of_it = {name: value for name, value in found["two_stages"].items() if name != "shortlist"}
    assert all_of_it == found["metrics"], "a shortlist of everything is no shortlist"
    assert found["metrics"]["rsum"] == pytest.approx(metrics(tmp_path / "run")["chosen"]["rsum"])
    assert evaluate.main([*words, "--shortlist", "1", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["two_stages"]["t2i_r1"] == found["global"]["t2i_r1"], "of one candidate there is nothing to rank"


def test_folds_are_the_mean_of_five_galleries():
    data = toy_data(images=25, split="test")
    tokenizer = train_tokenizer(data.captions)
    text = TextConfig(len(tokenizer), hidden=32, layers=1)
    model = build("vse", feature_dim=16, text=text, dim=32).eval()
    parts = [range(start, start + 5) for start in range(0, 25, 5)]
    each = [metrics_of(model, tokenizer, data.take(list(part))) for part in parts]
    found = measure(model, tokenizer, data, protocol="folds")
    for name, value in found["metrics"].items():
        assert value == pytest.approx(np.mean([one[name] for one in each]))
    assert found["metrics"]["t2i_r5"] == pytest.approx(100.0) and found["protocol"] == "folds"
    with pytest.raises(ValueError, match="23 images do not divide into 5 folds of one size"):
        measure(model, tokenizer, data.take(range(23)), protocol="folds")


def test_a_finished_run_is_not_trained_again(run, folder, monkeypatch):
    before = {name: (run / name).read_bytes() for name in files(run)}
    monkeypatch.setattr(training, "pair_batch", None)
    assert train.main(command(folder, run)) == 0
    assert {name: (run / name).read_bytes() for name in files(run)} == before


def test_a_stopped_run_goes_on_to_the_same_result(run, folder, tmp_path, monkeypatch):
    drawn, pair_batch = [], training.pair_batch

    def stop_in_second_epoch(*arguments):
        drawn.append(1)
        if len(drawn) == 8:  # of 6 batches an epoch
            raise KeyboardInterrupt
        return pair_batch(*arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(training, "pair_batch", stop_in_second_epoch)
        train.main(command(folder, tmp_path / "run"))
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert train.main(command(folder, tmp_path / "run")) == 0
    same_result(run, tmp_path / "run")


def same_result(first: Path, second: Path) -> None:
    """All but the seconds."""
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    said = [metrics(one) for one in (first, second)]
    for one in said:
        one.pop("seconds")
        for epoch in one["epochs"]:
            epoch.pop("seconds")
    assert said[0] == said[1]


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_result(folder, tmp_path):
    """Slow: seven processes that import torch anew; five are killed with SIGKILL at a random moment, two are not."""
    begin = [sys.executable, "-m", "data_scripts.train"]
    words, calm = ([*begin, *command(folder, tmp_path / name)] for name in ("run", "calm"))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    seed = int(time.time())
    print("seed of the moments:", seed)
    rng, seconds = np.random.default_rng(seed), None
    for _ in range(5):
        process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
        began = time.perf_counter()
        while not (tmp_path / "run" / "settings.toml").exists() and process.poll() is None:
            time.sleep(0.01)  # importing torch says nothing about resuming
        seconds = seconds or time.perf_counter() - began
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, seconds))
        process.kill()
        assert process.wait() in (-signal.SIGKILL, 0)
    for undisturbed in (words, calm):  # in processes, too: sums round by how many threads a process has
        assert subprocess.run(undisturbed, env=environment, stdout=subprocess.DEVNULL).returncode == 0
    same_result(tmp_path / "calm", tmp_path / "run")


@pytest.mark.slow
def test_two_processes_train_one_model(run, folder, tmp_path, capfd):
    """Slow: a launcher and two processes that import torch anew. With nothing drawn they end as one process does."""
    calm = [
        f"--set={name}=0"
        for name in ("model.dropout", "text.dropout", "training.drop_regions", "training.drop_features")
    ]
    alone, both = (command(folder, tmp_path / name, *calm) for name in ("alone", "both"))
    assert train.main(alone) == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    words = [*launcher, "-m", "data_scripts.train", *both]
    assert subprocess.run(words, env=environment).returncode == 0
    assert files(tmp_path / "both") == files(tmp_path / "alone")
    first, second = metrics(tmp_path / "alone"), metrics(tmp_path / "both")
    assert (first["machine"]["processes"], second["machine"]["processes"]) == (1, 2)
    assert [epoch["loss"] for epoch in second["epochs"]] == pytest.approx(
        [e["loss"] for e in first["epochs"]], rel=1e-3
    )
    card = (tmp_path / "both" / "README.md").read_text()
    assert "torchrun --nproc-per-node 2 -m data_scripts.train --model vse" in card
    capfd.readouterr()
    assert subprocess.run([*words, "--set", "model.dim=64"], env=environment).returncode != 0
    assert capfd.readouterr().err.count("belongs to another run") == 1, "one of the processes says it"


def test_without_a_test_split_it_reports_on_val_and_chooses_on_a_tenth_of_train(tmp_path, capsys):
    root = karpathy(tmp_path / "data", {"train": 60, "val": 20})
    assert train.main(command(root, tmp_path / "run", "--epochs", "1")) == 0
    said = metrics(tmp_path / "run")
    assert (said["reported"]["split"], said["reported"]["images"]) == ("val", 20)
    assert said["chosen"]["images"] == 6
    assert "a tenth of the training images, held out" in (tmp_path / "run" / "README.md").read_text()
    words = ["--run", str(tmp_path / "run"), "--data", "toy", "--root", str(root)]
    assert evaluate.main([*words, "--split", "val", "--json", str(tmp_path / "x.json")]) == 0
    assert json.loads((tmp_path / "x.json").read_text()) == said["reported"]
    capsys.readouterr()
    assert evaluate.main(words) == 1
    assert "no image of split 'test'" in capsys.readouterr().err


def test_features_are_chosen_and_images_without_are_counted(folder, tmp_path, capsys):
    root = karpathy(tmp_path / "data", {"train": 60, "val": 20})
    with np.load(root / "regions.npz") as whole:
        few = {name: whole[name][5:] for name in whole.files}
    np.savez(root / "few.npz", **few)
    assert train.main(command(root, tmp_path / "run", "--epochs", "1")) == 1
    assert "several feature files" in capsys.readouterr().err
    assert train.main(command(root, tmp_path / "run", "--epochs", "1", "--features", str(root / "few.npz"))) == 0
    said = capsys.readouterr().out
    assert "5 skipped: no features (train0.jpg" in said
    card = (tmp_path / "run" / "README.md").read_text()
    assert "--features FOLDER/few.npz" in card and "49 images trained on" in card


def photographs(folder: Path, split: str, count: int) -> list[str]:
    """Pictures of noise and what Karpathy's file says of them; returns their names."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng, names = np.random.default_rng(len(split)), [f"{split}{number}.png" for number in range(count)]
    for name in names:
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(folder / "images" / name)
    path = folder / "dataset_toy.json"
    known = json.loads(path.read_text())["images"] if path.exists() else []
    new = [{"filename": name, "split": split, "sentences": [{"raw": f"picture w{name[-5]}"}]} for name in names]
    path.write_text(json.dumps({"dataset": "toy", "images": known + new}))
    return names


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """An image model of random weights."""
    folder = tmp_path_factory.mktemp("vit")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    ViTModel(ViTConfig(image_size=32, patch_size=8, **sizes)).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_from_photographs_to_metrics_in_one_command(vit, tmp_path, capsys):
    home, elsewhere, run = tmp_path / "home", tmp_path / "elsewhere", tmp_path / "run"
    for split, count in (("train", 20), ("val", 6)):
        photographs(home, split, count)
    made = ["--model", str(vit), "--regions", "grid", "--grid", "2", "--device", "cpu", "--workers", "0"]
    assert extract_features.main(["--images", str(home / "images"), "--out", str(home / "grid"), *made]) == 0
    assert train.main(command(home, run, "--epochs", "1")) == 0
    assert f"extract_features` with model {vit}, regions grid, grid 2" in (run / "README.md").read_text()
    photographs(elsewhere, "test", 8)
    words = ["--run", str(run), "--data", "toy", "--root", str(elsewhere), "--device", "cpu", "--json"]
    assert evaluate.main([*words, str(tmp_path / "x.json")]) == 1
    assert "no image features" in capsys.readouterr().err
    assert evaluate.main([*words, str(tmp_path / "x.json"), "--images", str(elsewhere / "images")]) == 0
    found = json.loads((tmp_path / "x.json").read_text())
    assert (found["split"], found["images"]) == ("test", 8)
    assert evaluate.main([*words, str(tmp_path / "again.json")]) == 0, "the features are there now"
    assert json.loads((tmp_path / "again.json").read_text()) == found
    by_hand = ["--images", str(elsewhere / "images"), "--out", str(tmp_path / "by hand"), *made]
    assert extract_features.main(by_hand) == 0
    assert evaluate.main([*words, str(tmp_path / "hand.json"), "--features", str(tmp_path / "by hand")]) == 0
    assert json.loads((tmp_path / "hand.json").read_text()) == found
    capsys.readouterr()
    assert evaluate.main([*words, str(tmp_path / "x.json"), "--images", str(tmp_path / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_the_command_resolves_precision_for_its_device(folder, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(settings, "faster_precision", {"cpu": "bfloat16"}.__getitem__)
    monkeypatch.setattr(
        train, "train_into", lambda out, options, recipe, device: seen.append(recipe.training.precision)
    )
    for words in ((), ("--precision", "auto")):
        assert train.main(command(folder, tmp_path / "run", "--device", "cpu", *words)) == 0
    assert seen == ["float32", "bfloat16"]  # the toy run's own, and what is faster


def test_features_of_unknown_make_cannot_be_made_again(run, folder, capsys):
    words = ["--run", str(run), "--data", "toy", "--root", str(folder), "--images", str(folder)]
    assert evaluate.main(words) == 1
    assert "does not say how to make its features from pictures alone (it says nothing)" in capsys.readouterr().err


# --- what is wrong gets a sentence -----------------------------------------------------------------------------------


def test_another_run_is_not_overwritten(run, folder, tmp_path, capsys):
    before = {name: (run / name).read_bytes() for name in files(run)}
    other = karpathy(tmp_path / "other", {"train": 90, "val": 30, "test": 40})
    for words, sentence in (
        (command(folder, run, "--seed", "1"), "belongs to another run: training.seed is 0 there and 1 here"),
        (
            command(folder, run, *TINY_TGDT, model="tgdt"),
            "belongs to another run: model.name is 'vse' there and 'tgdt'",
        ),
        (command(other, run), "belongs to another run: data.train_images is 100 there and 90 here"),
    ):
        assert train.main(words) == 1
        assert sentence in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    assert train.main(command(folder, tmp_path / "full")) == 1
    assert "holds something else, such as 'thesis.tex'" in capsys.readouterr().err
    assert train.main(command(folder, tmp_path / "full" / "thesis.tex")) == 1
    assert "is a file: give a folder" in capsys.readouterr().err
    assert {name: (run / name).read_bytes() for name in files(run)} == before


def test_changed_features_are_another_run(folder, tmp_path, capsys):
    root = karpathy(tmp_path / "data", {"train": 60, "val": 20})
    assert train.main(command(root, tmp_path / "run", "--epochs", "1")) == 0
    with np.load(root / "regions.npz") as whole:
        arrays = dict(whole)
    arrays["features"][0] += 1
    np.savez(root / "regions.npz", **arrays)
    assert train.main(command(root, tmp_path / "run", "--epochs", "1")) == 1
    assert "training.pt was written by another run" in capsys.readouterr().err


def test_a_finished_run_without_its_checkpoint_is_not_made_again(folder, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    assert train.main(command(folder, tmp_path / "run", "--epochs", "1")) == 0
    (tmp_path / "run" / "training.pt").unlink()
    assert train.main(command(folder, tmp_path / "run", "--epochs", "1")) == 1
    assert "holds a finished run, and its checkpoint, training.pt, is gone" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["[model", "\x00", '[model]\nname = "vse"\n'])
def test_damaged_settings_get_a_sentence(damage, folder, tmp_path, capsys):
    (tmp_path / "settings.toml").write_text(damage)
    assert train.main(command(folder, tmp_path)) == 1
    assert "settings.toml cannot be read" in (said := capsys.readouterr().err) or "belongs to another run" in said


def test_evaluate_says_what_does_not_fit(run, folder, tmp_path, capsys):
    narrow = karpathy(tmp_path / "narrow", {"test": 20}, width=8)
    words = ["--run", str(run), "--data", "toy", "--root"]
    assert evaluate.main([*words, str(narrow)]) == 1
    assert "have 8 numbers a region, and the model was trained on 16" in capsys.readouterr().err
    (narrow / "regions.npz").unlink()
    assert evaluate.main([*words, str(narrow)]) == 1
    assert "has captions and no image features: extract them" in capsys.readouterr().err
    assert evaluate.main([*words, str(tmp_path / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err
    assert evaluate.main(["--run", str(tmp_path), "--data", "toy", "--root", str(folder)]) == 1
    assert "holds no trained model" in capsys.readouterr().err
    assert evaluate.main([*words, str(folder), "--json", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert str(tmp_path) in said.err and "rSum" in said.out, "the numbers are told before they are written"


def test_a_test_split_alone_is_enough_to_evaluate(run, tmp_path, capsys):
    assert evaluate.main(["--run", str(run), "--data", "toy", "--root", str(karpathy(tmp_path, {"test": 12}))]) == 0
    assert "toy/test: 12 images and 36 captions" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer/tokenizer.json"])
def test_a_damaged_run_gets_a_sentence(name, run, folder, tmp_path, capsys):
    for part in files(run) - {"training.pt"}:
        (tmp_path / part).parent.mkdir(exist_ok=True)
        (tmp_path / part).write_bytes((run / part).read_bytes())
    os.truncate(tmp_path / name, (tmp_path / name).stat().st_size // 2)
    assert evaluate.main(["--run", str(tmp_path), "--data", "toy", "--root", str(folder)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("evaluate: ") and str(tmp_path) in said
