"""Write the tables of README.md and docs/ anew from what was recorded; a test fails where they differ.

    python -m data_scripts.results            # or: make results
    python -m data_scripts.results --check    # write nothing; the exit status says whether anything would change

A page says where a table belongs: between ``<!-- table: NAME -->`` and ``<!-- end -->``, NAME one of ``TABLES``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_scripts import syllabus
from itr_lib.lessons.leaderboard import load_board
from itr_lib.lessons.recorded import recorded, runs_of
from itr_lib.lessons.variants import lesson06

REPO = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/RESULTS.md", "docs/TEACHING.md")
MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
RETRIEVAL = {"t2i_r1": "text to image R@1", "i2t_r1": "image to text R@1", "rsum": "rSum"}
TWINS = {"replaces": "replaced", "swaps": "swapped"}
POINTING = {
    "pointing_shape": "shape",
    "pointing_colour": "colour",
    "pointing_texture": "texture",
    "pointing_size": "size",
}
READINGS = {"global_t2i_r1": "global", "local_t2i_r1": "local", "t2i_r1": "both"}
SHORTLISTS = (10, 20, 50, 100, 200)

Runs = Sequence[Mapping[str, float]]
Row = Sequence[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, or check them; 1 where ``--check`` finds a difference."""
    parser = argparse.ArgumentParser("python -m data_scripts.results", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    options = parser.parse_args(arguments)
    stale = stale_pages(REPO)
    if not options.check:
        for page, new in stale.items():
            (REPO / page).write_text(new, encoding="utf-8")
    verb = "differs from what is recorded" if options.check else "written"
    print("\n".join(f"{page}: {verb}" for page in stale) or "the tables are those of the recorded runs")
    return int(options.check and bool(stale))


def stale_pages(repo: Path) -> dict[str, str]:
    """The pages of a repository whose tables are not those of the recorded runs, as they should read."""
    texts = {page: (repo / page).read_text(encoding="utf-8") for page in PAGES}
    new = {page: rewritten(text) for page, text in texts.items()}
    return {page: text for page, text in new.items() if text != texts[page]}


def rewritten(text: str) -> str:
    """The page with its tables made anew. Raises ``ValueError`` for a table that nobody knows, or a mark too many."""

    def table(found: re.Match[str]) -> str:
        if found[2] not in TABLES:
            raise ValueError(f"there is no table {found[2]!r}, expected one of {', '.join(TABLES)}")
        return f"{found[1]}{as_markdown(TABLES[found[2]]())}{found[3]}"

    if text.count("<!-- table:") != len(MARKED.findall(text)):
        raise ValueError("a table is not closed: expected <!-- end --> after each <!-- table: NAME -->")
    return MARKED.sub(table, text)


def as_markdown(rows: Sequence[Row]) -> str:
    """A Markdown table; the first row is its head, the first column stands left and the others right."""
    head, *body = rows
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def three_ways() -> list[Row]:
    """The front page's: what one vector, alignment, and the two in turn find and cost."""
    ways = {"VSE": "one vector", "TERAN": "alignment", "VSE, then TERAN (K = 50)": "two stages"}
    systems = {system["name"]: system for system in _board()["systems"]}
    rows = [["", "right picture first", "twins told apart", "time to rank"]]
    for name, way in ways.items():
        found, twins = (np.mean([run[metric] for run in systems[name]["runs"]]) for metric in ("t2i_r1", "swaps"))
        rows.append([way, f"{found:.0f} %", f"{twins:.0f} %", f"{systems[name]['ms_per_query']:.2f} ms"])
    return rows


def leaderboard_quality() -> list[Row]:
    """All systems by what they find."""
    board, columns = _board(), RETRIEVAL | {"swaps": "swapped twins"}
    systems = {"chance": [board["chance"]]} | {s["name"]: s["runs"] for s in board["systems"]}
    return _table(systems | {"ceiling: a perfect reader": [board["ceiling"]]}, columns)


def leaderboard_cost() -> list[Row]:
    """All systems by what they cost."""
    rows = [["", "weights", "training", "to encode", "to rank", "kept an image"]]
    for s in _board()["systems"]:
        times = f"{np.mean(s['train_seconds']):.0f} s", f"{s['encode_ms']:.1f} ms", f"{s['ms_per_query']:.2f} ms"
        rows.append([s["name"], f"{s['parameters']:,}", *times, f"{s['bytes_per_image']:,.0f} bytes"])
    return rows


def lessons() -> list[Row]:
    """The models as the lessons train them."""
    board = _board()
    chosen = {
        "VSE++ (GPO, hardest negatives)": ("01_global_embeddings", "VSE++ (hardest, GPO)"),
        "the same with InfoNCE": ("01_global_embeddings", "InfoNCE"),
        "one vector, TERAN's encoders, InfoNCE": ("02_fine_grained_alignment", "one vector, InfoNCE"),
        "TERAN (MrSw)": ("02_fine_grained_alignment", "TERAN (MrSw)"),
        "CHAN (hard codes, log-sum-exp)": ("03_hard_alignment", "CHAN (hard, lse)"),
        "the same with soft codes": ("03_hard_alignment", "soft, lse"),
        "USER without a queue": ("04_momentum_queues", "no queue, no clamp"),
        "USER, queues of 2,048 keys": ("04_momentum_queues", "USER (queue), no clamp"),
        "TGDT, both readings": ("05_tgdt_cmc", "TGDT"),
    }
    runs = {name: _runs(*where) for name, where in chosen.items()}
    return _table({"chance": [board["chance"]], **runs, "ceiling: a perfect reader": [board["ceiling"]]}, RETRIEVAL)


def variants(lesson: str, data: str = "scenes") -> list[Row]:
    """Every recorded variant of a lesson."""
    names = dict.fromkeys(run["variant"] for run in _record(lesson, data)["runs"])
    return _table({name: _runs(lesson, name, data) for name in names}, RETRIEVAL)


def twins() -> list[Row]:
    """Pairs of scenes that differ in a word, or in which object has which attribute."""
    chance = [dict.fromkeys(TWINS, 50.0)]
    models = {
        "VSE++": _runs("01_global_embeddings", "VSE++ (hardest, GPO)"),
        "TERAN": _runs("02_fine_grained_alignment", "TERAN (MrSw)"),
        "CHAN": _runs("03_hard_alignment", "CHAN (hard, lse)"),
        "TGDT, both readings": _runs("05_tgdt_cmc", "TGDT"),
    }
    return _table({"chance": chance} | models, TWINS)


def pointing() -> list[Row]:
    """Words whose best region shows what they speak of, by kind of word."""
    models = {
        "TERAN": _runs("02_fine_grained_alignment", "TERAN (MrSw)"),
        "CHAN": _runs("03_hard_alignment", "CHAN (hard, lse)"),
        "TGDT": _runs("05_tgdt_cmc", "TGDT"),
    }
    return _table(models, POINTING | {"pointing_chance": "chance"})


def readings() -> list[Row]:
    """TGDT's three readings, and how far pictures and captions disagree on what is alike."""
    names = ["TGDT", "without intra", "longer branches", "hinge", "at once", "joint", "global only"]
    runs = {name: _runs("05_tgdt_cmc", name) for name in names}
    return _table(runs, READINGS | {"structure_gap": "disagreement"}, digits={"structure_gap": 2})


def shortlists() -> list[Row]:
    """What a search in two stages keeps of the R@1 of aligning everything."""
    columns = [(variant, way) for variant in ("TGDT", "longer branches") for way in ("t2i", "i2t")]
    names = {"t2i": "text to image", "i2t": "image to text"}
    rows = [["K", *(f"{variant}, {names[way]}" for variant, way in columns)]]
    for k in SHORTLISTS:
        runs = [(_runs("05_tgdt_cmc", variant), way) for variant, way in columns]
        kept = ([100 * run[f"k{k}_{way}_r1"] / run[f"{way}_r1"] for run in some] for some, way in runs)
        rows.append([str(k), *(spread(values) for values in kept)])
    return rows


def photographs() -> list[Row]:
    """Flickr8k, one CLIP vector a picture."""
    return variants("01_global_embeddings", "flickr8k")


def ladder() -> list[Row]:
    """Flickr8k with region features: every step of lesson 06's ladder."""
    lesson, data = "06_real_photographs", "flickr8k"
    names = [name for name in lesson06("quick", data, 0) if name != "Entities"]  # which is about phrases
    columns = {"t2i_r1": "text to image R@1", "t2i_r5": "R@5", "t2i_r10": "R@10", "i2t_r1": "image to text R@1"}
    return _table({name: _runs(lesson, name, data) for name in names}, columns | {"rsum": "rSum"})


def phrases() -> list[Row]:
    """Phrases of Flickr30k Entities that point at a right box."""
    names = {
        "pointing_all": "phrases (%)",
        "pointing_largest_box": "always the largest box",
        "pointing_chance": "chance",
    }
    models = {
        "hand-made features, text from scratch": _runs("02_fine_grained_alignment", "TERAN (MrSw)", "entities"),
        "EfficientNet's map, MiniLM frozen": _runs("06_real_photographs", "Entities", "flickr8k"),
    }
    return _table(models, names)


TABLES: dict[str, Callable[[], list[Row]]] = {
    "three-ways": three_ways,
    "leaderboard-quality": leaderboard_quality,
    "leaderboard-cost": leaderboard_cost,
    "lessons": lessons,
    "losses": lambda: variants("01_global_embeddings"),
    "queues": lambda: variants("04_momentum_queues"),
    "twins": twins,
    "pointing": pointing,
    "readings": readings,
    "shortlists": shortlists,
    "photographs": photographs,
    "ladder": ladder,
    "phrases": phrases,
    "syllabus": syllabus.lessons,
    "weeks-4": lambda: syllabus.weeks(4),
    "weeks-8": lambda: syllabus.weeks(8),
    "weeks-12": lambda: syllabus.weeks(12),
    "by-hand": syllabus.by_hand,
}


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Lowest to highest; one number where they are the same."""
    low, high = (f"{value:.{digits}f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _table(runs: Mapping[str, Runs], columns: Mapping[str, str], digits: Mapping[str, int] | None = None) -> list[Row]:
    """A row a model, a column a metric, each lowest to highest over the seeds; "–" where nothing is known."""

    def cell(some: Runs, metric: str) -> str:
        values = [run[metric] for run in some if metric in run]
        return spread(values, (digits or {}).get(metric, 1)) if values else "–"

    return [["", *columns.values()], *([name, *(cell(some, m) for m in columns)] for name, some in runs.items())]


def _runs(lesson: str, variant: str, data: str = "scenes") -> Runs:
    return runs_of(_record(lesson, data), variant)


def _record(lesson: str, data: str = "scenes") -> dict[str, Any]:
    if (record := recorded(lesson, data)) is None:
        raise ValueError(f"nothing is recorded for {lesson} on {data}: python -m data_scripts.record --lesson {lesson}")
    return record


def _board() -> dict[str, Any]:
    if (board := load_board()) is None:
        raise ValueError("there is no leaderboard yet: python -m data_scripts.leaderboard")
    return board


if __name__ == "__main__":
    raise SystemExit(main())
