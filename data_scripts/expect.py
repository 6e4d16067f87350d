"""Write the bands that the runner holds metrics against, from runs of the lessons over several seeds.

    python -m data_scripts.expect --profile quick --seeds 0 1 2

A band reaches as far beyond the lowest and the highest run as these two are apart, and at least a thousandth of the
value, for metrics that do not depend on the seed. Another processor rounds otherwise, and ends elsewhere with the same
seed: run it there with --widen, and what is expected already stays expected. Runs on a GPU make bands of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from itr_lib.course import build as builder
from itr_lib.course.bands import place
from itr_lib.course.run import BUDGET_SECONDS, Options, run
from itr_lib.files import write_whole
from itr_lib.lessons.machine import choose_device

SLACK = 1e-3
Values = dict[str, dict[str, list[float]]]  # of the seeds, by lesson and metric


def band(values: list[float]) -> dict[str, float | int]:
    """The band of one metric from its values over the seeds."""
    reach = max(max(values) - min(values), SLACK * max(map(abs, values)))
    return {"low": round(min(values) - reach, 4), "high": round(max(values) + reach, 4), "seeds": len(values)}


def widened(old: dict[str, float | int], new: dict[str, float | int]) -> dict[str, float | int]:
    """A band that holds two others; its seeds are those of the one with more."""
    return {
        "low": min(old["low"], new["low"]),
        "high": max(old["high"], new["high"]),
        "seeds": max(old["seeds"], new["seeds"]),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the lessons once a seed and replace their bands, or widen them."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.expect", description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="quick", choices=list(BUDGET_SECONDS))
    parser.add_argument("--lessons", nargs="+", default=[], metavar="NN")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", default="scenes")
    parser.add_argument("--root", default="")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--widen", action="store_true", help="keep what the bands hold, for runs on another machine")
    options = parser.parse_args(arguments)
    try:
        found = values_over_seeds(options)
    except ValueError as error:
        parser.error(str(error))
    except FailedLesson as error:
        print(f"expect: {error}: no bands were written", file=sys.stderr)
        return 1
    path = builder.REPO / "tests" / "expected" / f"{options.profile}.json"
    write_bands(path, place(options.data, choose_device(options.device)), found, options.widen)
    print(f"wrote {builder.relative(path, builder.REPO)}")
    return 0


class FailedLesson(RuntimeError):
    """A lesson did not run to its end, so it has no numbers to expect."""


def values_over_seeds(options: argparse.Namespace) -> Values:
    """Each metric's values, one a seed, by lesson. Raises :class:`FailedLesson`; ``ValueError`` as the runner does."""
    names = ("profile", "device", "data", "root")
    chosen = Options(lessons=tuple(options.lessons), **{name: getattr(options, name) for name in names})
    found: Values = {}
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            results = run(replace(chosen, seed=seed), builder.REPO, Path(folder))
        for result in results:
            if result.status == "failed":
                raise FailedLesson(f"{result.lesson} failed with seed {seed}")
        add_values(found, {result.lesson: result.metrics for result in results})
    return found


def add_values(found: Values, metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Add one seed's metrics, by lesson, to those found so far."""
    for lesson, values in metrics.items():
        for metric, value in values.items():
            found.setdefault(lesson, {}).setdefault(metric, []).append(value)


def write_bands(path: Path, data: str, found: Values, widen: bool) -> None:
    """Replace the bands of the lessons in ``found``, or widen them; all others stay as they are."""
    bands = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    expected = bands.setdefault(data, {})
    for lesson, metrics in found.items():
        old = expected.get(lesson, {}) if widen else {}
        new = {name: band(values) for name, values in metrics.items()}
        expected[lesson] = old | {name: widened(old.get(name, one), one) for name, one in new.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(bands, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    sys.exit(main())
