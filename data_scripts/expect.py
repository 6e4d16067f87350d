"""Write the bands that the runner holds metrics against, from runs of the lessons over several seeds.

    python -m data_scripts.expect --profile quick --seeds 0 1 2

A band reaches as far beyond the lowest and the highest run as these two are apart, and at least a thousandth of the
value, for metrics that do not depend on the seed. Another processor rounds otherwise, and ends elsewhere with the same
seed: run it there with --widen, and what is expected already stays expected.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from itr_lib.course.build import REPO
from itr_lib.course.run import BUDGET_SECONDS, Options, run

SLACK = 1e-3


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


def main() -> None:
    """Run the lessons once a seed and replace their bands, or widen them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="quick", choices=list(BUDGET_SECONDS))
    parser.add_argument("--lessons", nargs="+", default=[], metavar="NN")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", default="scenes")
    parser.add_argument("--root", default="")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--widen", action="store_true", help="keep what the bands hold, for runs on another machine")
    options = parser.parse_args()
    found: dict[str, dict[str, list[float]]] = {}
    for seed in options.seeds:
        chosen = Options(
            tuple(options.lessons), "solutions", options.profile, options.device, seed, options.data, options.root
        )
        with tempfile.TemporaryDirectory() as folder:
            results = run(chosen, out=Path(folder))
        for result in results:
            if result.status == "failed":
                raise SystemExit(f"{result.lesson} failed with seed {seed}: no bands were written")
            for metric, value in result.metrics.items():
                found.setdefault(result.lesson, {}).setdefault(metric, []).append(value)
    path = REPO / "tests" / "expected" / f"{options.profile}.json"
    bands = json.loads(path.read_text()) if path.exists() else {}
    expected = bands.setdefault(options.data, {})
    for lesson, metrics in found.items():
        old = expected.get(lesson, {}) if options.widen else {}
        new = {name: band(values) for name, values in metrics.items()}
        expected[lesson] = {name: widened(old.get(name, one), one) for name, one in new.items()}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(bands, indent=1, sort_keys=True) + "\n")
    print(f"wrote {path.relative_to(REPO)}")


if __name__ == "__main__":
    main()
