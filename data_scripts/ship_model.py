"""Copy the model of a training run to where lesson 06 takes it from, in 16 bits: it comes with the course.

    python -m data_scripts.train --model tgdt --preset itr_lib/lessons/photographs/model/settings.toml \
        --data flickr8k --root FOLDER --features FOLDER --out RUN
    python -m data_scripts.ship_model --run RUN

The tokenizer, settings, metrics and model card come along, so that data_scripts.evaluate takes it for a run.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from itr_lib.lessons.photographs import HERE
from itr_lib.models import load_model, save_model

MODEL = HERE / "model"
MOST_BYTES = 5 * 10**6
BESIDE = ("settings.toml", "metrics.json", "README.md")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write ``itr_lib/lessons/photographs/model``."""
    parser = argparse.ArgumentParser("python -m data_scripts.ship_model", description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="what data_scripts.train wrote")
    parser.add_argument("--out", type=Path, default=MODEL, help="where to (default: the lesson's folder)")
    options = parser.parse_args(arguments)
    try:
        model = load_model(options.run).half()
    except ValueError as error:
        parser.error(str(error))
    size = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    if size > MOST_BYTES:
        parser.error(f"{options.run} has {size / 1e6:.1f} MB in 16 bits, expected at most {MOST_BYTES / 1e6:.0f}")
    save_model(model, options.out)
    for name in BESIDE:
        shutil.copyfile(options.run / name, options.out / name)
    shutil.copytree(options.run / "tokenizer", options.out / "tokenizer", dirs_exist_ok=True)
    print(f"{options.out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
