"""A model card: what a run is, what it was made with and measured on, and what it is not for."""

from __future__ import annotations

from data_scripts.encoder import PIXELS
from data_scripts.evaluate import table_of, words_of
from data_scripts.settings import TABLES, Tables, as_toml
from data_scripts.sources import read_sources

PAPERS = {
    "vse": "VSE++ (Faghri et al., BMVC 2018) with the pooling of VSE-infinity (Chen et al., CVPR 2021)",
    "teran": "TERAN (Messina et al., ACM TOMM 17(4), 2021)",
    "chan": "CHAN (Pan et al., CVPR 2023)",
    "user": "USER (Zhang et al., IEEE TIP 33, 2024)",
    "tgdt": "TGDT (Liu et al., IEEE TIP 32, 2023)",
}
TAKES_FEATURES = "It takes features of the encoder that it was trained on, and no others."
TAKES_PICTURES = "It takes pictures, as `model.backbone.pictures(data)` gives them."
PRETRAINED = " The pretrained text model that the settings name is needed again when it is loaded."
CARD = """# {model}, trained on {data}

A model of image-text retrieval: {paper}, as `itr_lib.models.{model}` writes it, with {parameters:,} weights.
It ranks captions for an image and images for a caption.

## Measured

```
{table}
```

{protocol}
The weights are those of epoch {epoch} of {epochs} (counted from 1), the best on {chosen}: rSum {rsum:.1f} there.

## Data

{sizes}
Each image is at most {regions} regions of {feature_dim} numbers{features}.
Licence of the data: {licence}

## Made by

```
{command}
```

{seconds:.0f} seconds of training, on {machine}.

{caution}

## Settings

```toml
{settings}```

## Use

To measure it: `python -m data_scripts.evaluate --run RUN --data {data} --root FOLDER --split {split}`.
To load it: `itr_lib.models.load_model("RUN")` and `itr_lib.data.load_tokenizer("RUN/tokenizer")`.{pretrained}

It is meant for learning and for research on retrieval. It knows what its {train_images:,} training images show and how
their captions speak: on other pictures, words or languages it was not measured. {takes}
It ranks what it is given and never says that nothing fits. It repeats what its captions assume about people, so do not
use it to identify or to judge them.
"""


def model_card(metrics: dict, settings: Tables, command: str) -> str:
    """The card of a run, in Markdown.

    Args:
        metrics: as metrics.json keeps them.
        settings: as settings.toml keeps them.
        command: what made the run.
    """
    reported, chosen, machine, data = metrics["reported"], metrics["chosen"], metrics["machine"], settings["data"]
    return CARD.format(
        model=metrics["model"],
        paper=PAPERS[metrics["model"]],
        parameters=metrics["parameters"],
        table=table_of(reported),
        protocol=_protocol(reported),
        epoch=chosen["epoch"] + 1,
        epochs=len(metrics["epochs"]),
        chosen=f"the {chosen['images']:,} images of {_split(chosen['split'])}",
        rsum=chosen["rsum"],
        data=data["name"],
        split=reported["split"],
        sizes=_sizes(data),
        regions=data["regions"],
        feature_dim=data["feature_dim"],
        features=_features(data["features"], settings["encoder"], settings["training"]["image_rate"]),
        takes=TAKES_PICTURES if settings["encoder"].get("regions") == PIXELS else TAKES_FEATURES,
        licence=licence_of(data["name"]),
        command=command,
        seconds=metrics["seconds"],
        machine=", ".join(f"{name} {value}" for name, value in machine.items()),
        caution=_again(machine),
        settings=as_toml({table: settings[table] for table in TABLES}),
        pretrained="" if settings["text"]["pretrained"] == "none" else PRETRAINED,
        train_images=data["train_images"],
    )


def licence_of(data: str) -> str:
    """What is known of a data set's licence."""
    sources = read_sources()
    if data in sources:
        return f"{sources[data].licence} ({sources[data].cite})."
    if data == "scenes":
        return "none is needed, the course draws its scenes itself."
    return "not known here; ask those whom the data came from before you pass on anything made with them."


def _protocol(reported: dict) -> str:
    ranked = words_of(reported["protocol"], reported["images"], reported["captions"])
    return (
        f"Recall in per cent, median ranks from 1, on {_split(reported['split'])} of {reported['data']}: {ranked}. Ties"
        " count against the model. Nothing was chosen on these images."
    )


def _sizes(data: dict) -> str:
    parts = ("train", "trained on"), ("chosen_on", "epoch chosen on"), ("reported_on", "reported on")
    said = [f"{data[f'{part}_images']:,} images {words} ({_split(data[f'{part}_split'])})" for part, words in parts]
    return f"{data['name']}: {', '.join(said)}."


def _features(file: str, encoder: dict, rate: float) -> str:
    if encoder.get("regions") == PIXELS:
        grid, learnt = encoder["grid"], f"learnt at {rate:g} times the rate of the rest" if rate else "stayed as it was"
        parts = f" and {grid} x {grid} parts of it" if grid else ""
        return f", the whole picture{parts}, by {encoder['model']}, which is a part of the model and {learnt}"
    if encoder:
        return ", made by `extract_features` with " + ", ".join(f"{name} {value}" for name, value in encoder.items())
    return "" if file == "none" else f", from `{file}`"


def _split(name: str) -> str:
    return "a tenth of the training images, held out" if name == "dev" else f"the split {name!r}"


def _again(machine: dict) -> str:
    if machine["device"] == "cpu":
        return "With the same versions and as many threads the command gives the same weights, bit for bit."
    return "On a GPU the command gives weights that differ in the last digits, and metrics that differ a little."
