"""Train one of the five models on any data, into a folder that `data_scripts.evaluate` measures.

The folder gets the weights (config.json, model.safetensors), the tokenizer, metrics.json, settings.toml and a model
card, README.md. A run that was stopped goes on where it was when the same command is given again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from data_scripts.card import model_card
from data_scripts.encoder import PIXELS, encoder_of
from data_scripts.evaluate import add_data_arguments, measure, table_of
from data_scripts.settings import Tables, as_toml, changed, differences, read_preset, recipe_of, tables_of
from itr_lib.data import Splits, load_splits, load_tokenizer, train_tokenizer
from itr_lib.encoders.backbone import Backbone, BackboneConfig
from itr_lib.encoders.pretrained import PRECISIONS
from itr_lib.encoders.text import TextConfig
from itr_lib.files import write_whole
from itr_lib.lessons.machine import choose_device, deterministic, versions
from itr_lib.lessons.recipes import Recipe
from itr_lib.models import MODELS, save_model
from itr_lib.parallel import gather_objects, rank, together, world
from itr_lib.training import History, train

SETTINGS = "settings.toml"
HEAD = "# All settings of this run, as data_scripts.train resolved them. As a preset: --preset and this file.\n\n"


def train_into(out: Path, options: argparse.Namespace, recipe: Recipe, device: str) -> dict | None:
    """Train, or go on with what lies in ``out``, measure on the test split, and write all of it; returns the metrics.

    Of several processes (``torchrun``) the first writes, and the others return None.

    Raises:
        OSError: data, a pretrained model or the folder cannot be read or written.
        ValueError: they do not fit, or ``out`` belongs to another run.
        FloatingPointError: the loss became NaN or infinite.
    """
    with together(device):
        first, processes = rank() == 0, world()
        backbone = Backbone(BackboneConfig(options.pictures, options.grid)) if options.pictures else None
        splits = load_data(options, backbone)
        if first:
            print(splits.notes)
        splits.train.expect_features()
        settings = tables_of(recipe) | {"data": about(splits, options, backbone)}
        settings["encoder"] = encoder_in(options, splits)
        claim(out, settings)
        tokenizer = tokenizer_for(recipe.model.text, splits)
        model = recipe.build(splits.train, tokenizer, backbone)
        data = tokenizer, splits.train, splits.val
        history = train(model, recipe.objective, *data, recipe.training, device=device, folder=out, label=options.model)
    if not first:
        return None
    metrics = {
        "model": options.model,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "reported": measure(model, tokenizer, splits.test, device=device),
        "chosen": chosen(splits, history),
        "epochs": history.epochs,
        "seconds": sum(epoch["seconds"] for epoch in history.epochs),
        "machine": machine(device) | {"processes": processes},
    }
    save_model(model, out)
    save_tokenizer(tokenizer, out / "tokenizer")
    write_whole(out / "README.md", model_card(metrics, settings, command(options, processes)))
    write_whole(out / "metrics.json", json.dumps(metrics, indent=1) + "\n")  # last: with it a run is finished
    return metrics


def load_data(options: argparse.Namespace, backbone: Backbone | None) -> Splits:
    """What to train on, to choose the epoch by, and to report; with a backbone, as it sees them."""
    profile = options.profile if options.data == "scenes" else "full"
    if backbone is None:
        return load_splits(options.data, options.root, profile=profile, features=options.features)
    splits = load_splits(options.data, options.root, profile=profile, pictures_alone=True)
    return replace(splits, **{part: backbone.pictures(getattr(splits, part)) for part in ("train", "val", "test")})


def encoder_in(options: argparse.Namespace, splits: Splits) -> dict[str, str | int]:
    """What makes numbers of a picture, as far as it is known."""
    if options.pictures:
        return {"model": options.pictures, "regions": PIXELS, "grid": options.grid}
    return encoder_of(splits.features)


def about(splits: Splits, options: argparse.Namespace, backbone: Backbone | None) -> dict:
    """What the data of a run were, in numbers."""
    parts = {"train": splits.train, "chosen_on": splits.val, "reported_on": splits.test}
    sizes = {f"{name}_images": len(part) for name, part in parts.items()}
    named = {f"{name}_split": part.split for name, part in parts.items()}
    regions, width = (len(backbone.boxes), backbone.width) if backbone else splits.train.features.shape[1:]
    features = Path(options.features).name if options.features else "none"
    return {"name": options.data, "features": features, "regions": regions, "feature_dim": width, **named, **sizes}


def claim(out: Path, settings: Tables) -> None:
    """Make the folder this run's, or see that it is. Raises ``ValueError`` where it is not, in every process."""
    problem = gather_objects(_claimed(out, settings) if rank() == 0 else "")[0]
    if problem:
        raise ValueError(problem)


def _claimed(out: Path, settings: Tables) -> str:
    """What stands against using the folder; where nothing does, it is this run's now."""
    path = out / SETTINGS
    if out.exists() and not out.is_dir():
        return f"--out {out} is a file: give a folder"
    if not path.is_file():
        if out.is_dir() and (
            found := sorted({entry.name for entry in out.iterdir()} - {".lock", f"{SETTINGS}.partial"})
        ):
            return f"--out {out} holds something else, such as {found[0]!r}: give a new or an empty folder"
        out.mkdir(parents=True, exist_ok=True)
        write_whole(path, HEAD + as_toml(settings))
        return ""
    try:
        different = differences(tomllib.loads(path.read_text(encoding="utf-8")), settings)
    except (ValueError, AttributeError) as error:
        return f"{path} cannot be read ({error}): give another folder"
    if different:
        few = "; ".join(different[:3]) + ("; ..." if len(different) > 3 else "")
        return f"--out {out} belongs to another run: {few}. Give another folder, or the same settings."
    if (out / "metrics.json").is_file() and not (out / "training.pt").is_file():
        return f"--out {out} holds a finished run, and its checkpoint, training.pt, is gone: give another folder"
    return ""


def tokenizer_for(text: TextConfig, splits: Splits) -> PreTrainedTokenizerBase:
    """The pretrained text model's own, or one that is trained on the training captions."""
    return load_tokenizer(text.pretrained) if text.pretrained else train_tokenizer(splits.train.captions)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer's files; a process that dies leaves the folder whole or absent."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished:
        tokenizer.save_pretrained(unfinished)
        if folder.is_dir():
            shutil.rmtree(folder)
        shutil.copytree(unfinished, Path(unfinished, "whole"))
        os.rename(Path(unfinished, "whole"), folder)


def chosen(splits: Splits, history: History) -> dict:
    """Which epoch's weights were kept, and by which images."""
    best = history.best_epoch
    return {"split": splits.val.split, "images": len(splits.val), "epoch": best, "rsum": history.epochs[best]["rsum"]}


def machine(device: str) -> dict:
    """What the run was computed on: nothing that names the machine or a folder of it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = {"gpu": torch.cuda.get_device_name()} if device == "cuda" else {}
    known = {"device": device, **gpu, "processor": platform.machine(), "cores": cores}
    return known | {"threads": torch.get_num_threads()} | versions()


def command(options: argparse.Namespace, processes: int) -> str:
    """What to call to make the run again, with FOLDER and RUN for the folders."""
    caller = "python" if processes == 1 else f"torchrun --nproc-per-node {processes}"
    words = [caller, "-m data_scripts.train", "--model", options.model, "--preset", Path(options.preset).name]
    words += ["--data", options.data, "--out", "RUN"]
    words += ["--profile", options.profile] if options.data == "scenes" else ["--root", "FOLDER"]
    words += ["--features", f"FOLDER/{Path(options.features).name}"] if options.features else []
    words += ["--deterministic"] if options.deterministic else []
    words += ["--pictures", shlex.quote(options.pictures), "--grid", str(options.grid)] if options.pictures else []
    for setting in settings_of(options):
        words += ["--set", shlex.quote(setting)]
    return " ".join(words)


def settings_of(options: argparse.Namespace) -> list[str]:
    """All that changes the preset, in the order in which it does."""
    named = {"seed": options.seed, "epochs": options.epochs, "precision": options.precision}
    return options.set + [f"training.{name}={value}" for name, value in named.items() if value is not None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, say what came of it and where it lies."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.train", description=__doc__)
    parser.add_argument("--model", required=True, choices=tuple(MODELS))
    parser.add_argument("--preset", default="small", help="small, paper, or a .toml file (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder: new, empty, or the same run's")
    parser.add_argument("--seed", type=int, help="of first weights and order (default: the preset's, 0)")
    parser.add_argument("--epochs", type=int, help="how long (default: the preset's)")
    parser.add_argument("--precision", choices=("auto", *PRECISIONS), help="auto: the faster (default: the preset's)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="TABLE.NAME=VALUE", help="change a setting, as often as needed"
    )
    parser.add_argument("--deterministic", action="store_true", help="on a GPU: the same sums at each run, but slower")
    add_data_arguments(parser)
    parser.add_argument("--pictures", metavar="MODEL", help="learn from the pictures, through this image model")
    parser.add_argument("--grid", type=int, default=4, help="its map in so many parts a side (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.pictures and (options.features or options.data == "entities"):
        parser.error("--pictures looks at whole pictures: leave --features out, and take another --data than entities")
    try:
        device = choose_device(options.device)
        tables = read_preset(options.model, options.preset, options.data)
        for setting in settings_of(options):
            tables = changed(tables, setting)
        recipe = recipe_of(tables, device)
    except ValueError as error:
        parser.error(str(error))
    out = options.out.expanduser()
    try:
        with deterministic() if options.deterministic else nullcontext():
            metrics = train_into(out, options, recipe, device)
    except (OSError, ValueError, FloatingPointError) as error:
        if rank() == 0:
            print(f"train: {error}", file=sys.stderr)
        return 1
    if metrics is not None:
        print(table_of(metrics["reported"]))
        print(f"{out}: trained in {metrics['seconds']:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
