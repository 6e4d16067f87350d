"""Measure a trained model on a split: from the folder that `data_scripts.train` wrote to a table, and JSON.

Every image of the split is ranked for every caption and the other way round. A model with two readings (TGDT) is also
measured by its global reading alone, and in two stages: a shortlist by the global reading, ranked anew by both.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from data_scripts.encoder import extract_alike
from itr_lib.data import load_entities, load_folder, load_splits, load_tokenizer
from itr_lib.data.dataset import RetrievalData
from itr_lib.evaluation import RetrievalMetrics, mean_over_folds, retrieval_metrics, two_stage_metrics
from itr_lib.files import write_whole
from itr_lib.inference import encode, readings_of, rows_of
from itr_lib.lessons.machine import choose_device
from itr_lib.models import TwoStageModel, load_model
from itr_lib.validation import expect_choice, expect_count

PROTOCOLS = ("full", "folds")
READINGS = ("metrics", "global", "two_stages")  # the first is every model's, the others of one with two readings
FOLDS = 5
SHORTLIST = 50  # TGDT's released code: 50 captions for an image
COLUMNS = ("i2t_r1", "i2t_r5", "i2t_r10", "i2t_medr", "t2i_r1", "t2i_r5", "t2i_r10", "t2i_medr", "rsum")


def measure(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    data: RetrievalData,
    *,
    protocol: str = "full",
    shortlist: int = SHORTLIST,
    device: str = "cpu",
) -> dict:
    """All there is to say of a model on a split, as JSON keeps it.

    ``metrics`` are those of :func:`itr_lib.evaluation.retrieval_metrics` on the model's own scores; a model with two
    readings has ``global`` and ``two_stages`` beside it, the latter with its ``shortlist``.

    Args:
        model: as :mod:`itr_lib.models` has them.
        tokenizer: the model's own.
        data: the split.
        protocol: ``"full"``, the whole split is one gallery; ``"folds"``, the mean over five parts of it in their
            order, each a gallery of its own (the COCO 1K of the papers is that of the 5,000 test images).
        shortlist: of the search in two stages.
        device: ``"cpu"`` or ``"cuda"``.

    Raises:
        ValueError: for another protocol, a shortlist below 1, or images that do not divide into folds.
    """
    expect_choice("protocol", protocol, PROTOCOLS)
    expect_count("shortlist", shortlist)
    images, captions = encode(model, tokenizer, data, device=device)
    folds, made = 1 if protocol == "full" else FOLDS, {}

    def of_fold(reading: str, rows: Tensor, columns: Tensor, own: Tensor) -> RetrievalMetrics:
        first = int(rows[0])
        if first not in made:  # the scores of a fold are made once, for all readings
            some = images if folds == 1 else rows_of(images, rows.to(device))
            made[first] = readings_of(model, some, captions if folds == 1 else rows_of(captions, columns.to(device)))
        return _metrics(reading, made[first], own, shortlist, getattr(model, "local_weight", 0.0))

    readings = READINGS if isinstance(model, TwoStageModel) else READINGS[:1]
    found = {
        reading: mean_over_folds(len(data), data.image_of_caption, folds, partial(of_fold, reading)).as_dict()
        for reading in readings
    }
    if "two_stages" in found:
        found["two_stages"] = {"shortlist": shortlist, **found["two_stages"]}
    about = {"data": data.name, "split": data.split, "images": len(data), "captions": len(data.captions)}
    return about | {"protocol": protocol} | found


def _metrics(reading: str, scores: dict[str, Tensor], own: Tensor, shortlist: int, weight: float) -> RetrievalMetrics:
    """Metrics of one gallery by one of its ``READINGS``."""
    if reading == "two_stages":
        return two_stage_metrics(scores["global"], scores["local"], own, shortlist, local_weight=weight)
    return retrieval_metrics(scores["global" if reading == "global" else ""], own)


def words_of(protocol: str, images: int, captions: int) -> str:
    """What a protocol ranks, in words."""
    if protocol == "full":
        return f"{images:,} images and {captions:,} captions as one gallery"
    return f"{images:,} images and {captions:,} captions in {FOLDS} parts, each a gallery of its own; the mean of these"


def table_of(result: dict) -> str:
    """What :func:`measure` found, a line a reading."""
    names = {"metrics": "every pair", "global": "global reading alone", "two_stages": ""}
    if "two_stages" in result:
        names["metrics"] = "every pair, both readings"
        names["two_stages"] = f"two stages, shortlist {result['two_stages']['shortlist']}"
    width = max(map(len, names.values()))
    heads = [f"{column.split('_')[-1].replace('r', 'R@') if '_r' in column else 'MedR'}" for column in COLUMNS[:-1]]
    lines = [
        f"{'':{width}} | {'image to text':^26} | {'text to image':^26} |",
        f"{'':{width}} | {_cells(heads[:4])} | {_cells(heads[4:])} | {'rSum':>5}",
    ]
    for reading, name in names.items():
        if reading in result:
            cells = [f"{result[reading][column]:.1f}" for column in COLUMNS]
            lines.append(f"{name:{width}} | {_cells(cells[:4])} | {_cells(cells[4:8])} | {cells[8]:>5}")
    ranked = words_of(result["protocol"], result["images"], result["captions"])
    return "\n".join([f"{result['data']}/{result['split']}: {ranked}", *lines])


def _cells(texts: Sequence[str]) -> str:
    return " ".join(f"{text:>{8 if at == 3 else 5}}" for at, text in enumerate(texts))


def load_split(name: str, root: str, split: str, profile: str, **how) -> RetrievalData:
    """One split of a data set, and a word about what was skipped; ``how``: of ``load_folder``, for photographs.

    Raises ``ValueError`` where it cannot be read.
    """
    if name == "scenes":
        splits = load_splits(name, profile=profile)
        return {"val": splits.val, "test": splits.test}[split]
    read = load_entities(root) if name == "entities" else load_folder(name, root, splits=[split], **how)
    print(read.report())
    if split not in read.splits:
        raise ValueError(f"{root!r} has no image of split {split!r}: it has {list(read.splits)}")
    return read[split]


def load_run(run: Path) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """The model and the tokenizer of a run. Raises ``ValueError`` where it is not finished, or no run."""
    if not (run / "model.safetensors").is_file():
        raise ValueError(
            f"{str(run)!r} holds no trained model: expected the folder that data_scripts.train wrote (--out)"
        )
    return load_model(run), load_tokenizer(run / "tokenizer")


def expect_width(model: nn.Module, data: RetrievalData) -> None:
    """Raise ``ValueError`` where the features are not as wide as those that the model was trained on."""
    expected = model.config.feature_dim
    data.expect_features()
    if data.feature_dim != expected:
        raise ValueError(
            f"the features of {data.name}/{data.split} have {data.feature_dim} numbers a region, and the model was"
            f" trained on {expected}: give features of the same encoder with --features, or the pictures with --images"
        )


def evaluate_run(options: argparse.Namespace, device: str) -> dict:
    """Load, encode, measure. Raises ``ValueError`` or ``OSError`` where something does not fit."""
    run, features = options.run.expanduser(), options.features
    if options.data in ("scenes", "entities") and (features or options.images):
        raise ValueError(f"--features and --images are for photographs: {options.data!r} makes its own features")
    model, tokenizer = load_run(run)
    what = options.data, options.root, options.split, options.profile
    if hasattr(model, "backbone"):
        if features:
            raise ValueError(f"{str(run)!r} looks at pictures itself: leave --features out")
        data = model.backbone.pictures(load_split(*what, images=options.images, pictures_alone=True, verify=True))
    else:
        if options.images:
            features = str(extract_alike(run, options.images, features and Path(features), options.root, device))
        data = load_split(*what, features=features)
        expect_width(model, data)
    settings = {"protocol": options.protocol, "shortlist": options.shortlist, "device": device}
    return measure(model.to(device), tokenizer, data, **settings)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.evaluate", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="the folder that data_scripts.train wrote")
    parser.add_argument("--split", choices=("val", "test"), default="test", help="which images (default: %(default)s)")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="full", help="one gallery, or five (COCO 1K)")
    parser.add_argument("--shortlist", type=int, default=SHORTLIST, help="of two stages (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the numbers into this file, too")
    add_data_arguments(parser)
    parser.add_argument("--images", help="the pictures, where no features are there: the run knows its encoder")
    options = parser.parse_args(arguments)
    if options.shortlist < 1:
        parser.error("--shortlist must be at least 1")
    if options.json is not None and not options.json.expanduser().absolute().parent.is_dir():
        parser.error(f"--json {options.json}: there is no such folder")
    try:
        device = choose_device(options.device)
    except ValueError as error:
        parser.error(str(error))
    try:
        result = evaluate_run(options, device)
        print(table_of(result))
        if options.json is not None:
            write_whole(options.json.expanduser(), json.dumps(result, indent=1) + "\n")
    except (OSError, ValueError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    return 0


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """What says which data, and where to compute."""
    parser.add_argument("--data", required=True, help="name of the data set: scenes, flickr8k, coco, ...")
    parser.add_argument("--root", default="", help="the folder that holds it")
    parser.add_argument("--features", help="feature file or folder, where the data set's folder holds none or several")
    parser.add_argument(
        "--profile", choices=("smoke", "quick", "full"), default="quick", help="size of the drawn scenes"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


if __name__ == "__main__":
    sys.exit(main())
