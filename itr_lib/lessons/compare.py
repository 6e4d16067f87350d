"""This run beside recorded ones: which rows there are, their table, and the lines of chance and ceiling."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from itr_lib.data.dataset import RetrievalData
from itr_lib.lessons.recorded import recorded

NAMES = {
    "swaps": "swapped twins",
    "replaces": "replaced twins",
    "pointing_all": "pointing",
    "pointing": "pointing",
    "ndcg_graph": "NDCG@25",
    "loss": "training loss",
    "global_t2i_r1": "vector alone: text→image R@1",
    "structure_gap": "structure: gap",
    "structure_correlation": "structure: correlation",
}
NO_PERCENT = (
    "rsum",
    "loss",
    "ndcg",
    "medr",
    "meanr",
    "structure",
)  # of another scale: in the table, not among the bars
KNOWN = {"swaps": (50.0, 100.0), "replaces": (50.0, 100.0)}  # chance and ceiling of what is no retrieval
RIGHT = "text-align: right; padding: 0.15em 0.6em"
Run = Mapping[str, float]


class _Metrics(Protocol):
    """:class:`itr_lib.evaluation.RetrievalMetrics`, or what else gives its numbers by name."""

    def as_dict(self) -> dict[str, float]:
        """The numbers by name."""
        ...


# Of this run: metrics. Of the record: a variant, or a variant and the reading that its metrics begin with.
Value = _Metrics | Run | str | tuple[str, str]


@dataclass(frozen=True)
class Row:
    """One line of a comparison: the metrics of its runs, and whether they are of the run under way."""

    name: str
    runs: Sequence[Run]
    this_run: bool = False

    def values(self, metric: str) -> list[float]:
        """The runs' values of a metric; none where it was not measured."""
        return [float(run[metric]) for run in self.runs if metric in run]


def runs_of_variant(lesson: str, variant: str, data: str) -> list[dict[str, float]] | None:
    """Metrics of a recorded variant, a dictionary a seed, with the ``loss`` of its last epoch.

    ``variant`` may name another lesson's: ``"02_fine_grained_alignment/TERAN (MrSw)"``. None where the lesson has no
    record for these data. Raises ``ValueError`` for a variant that the record does not have.
    """
    if "/" in variant:
        lesson, variant = variant.split("/", 1)
    record = recorded(lesson, data)
    if record is None:
        return None
    runs = sorted((run for run in record["runs"] if run["variant"] == variant), key=lambda run: run["seed"])
    if not runs:
        known = ", ".join(map(repr, sorted({run["variant"] for run in record["runs"]})))
        raise ValueError(f"no run of {variant!r} is recorded for {lesson} and {data}: known are {known}")
    return [{"loss": run["epochs"][-1]["loss"], **run["metrics"]} if run["epochs"] else run["metrics"] for run in runs]


def rows_of_results(results: Mapping[str, Value], lesson: str, data: str) -> tuple[list[Row], list[str]]:
    """The rows of a comparison in their order, and the names of those that are not recorded for these data.

    Raises ``ValueError`` for an unknown variant or a value that is neither metrics nor a variant's name.
    """
    rows, absent = [], []
    for name, value in results.items():
        row = _row(name, value, lesson, data)
        absent.append(name) if row is None else rows.append(row)
    return rows, absent


def _row(name: str, value: Value, lesson: str, data: str) -> Row | None:
    if isinstance(value, str | tuple):
        variant, reading = (value, "") if isinstance(value, str) else value
        runs = runs_of_variant(lesson, variant, data)
        if runs and not any(_reading(run, reading) for run in runs):
            raise ValueError(
                f"{variant!r} has no reading {reading!r}: none of its metrics begins with {reading + '_'!r}"
            )
        return None if runs is None else Row(name, [_reading(run, reading) for run in runs])
    if isinstance(value, Mapping):
        return Row(name, [dict(value)], this_run=True)
    if hasattr(value, "as_dict"):
        return Row(name, [value.as_dict()], this_run=True)
    raise ValueError(f"{name!r} is a {type(value).__name__}, expected metrics of this run or the name of a variant")


def _reading(run: Run, reading: str) -> Run:
    """Of a run's metrics those of one reading, ``global_t2i_r1`` as ``t2i_r1``; without a reading all of them."""
    start = f"{reading}_"
    return {name[len(start) :]: value for name, value in run.items() if name.startswith(start)} if reading else run


def references(data: RetrievalData) -> dict[str, dict[str, float]]:
    """What chance finds in a split and, where the truth is known, what a perfect reader would, in percent.

    A caption that is true of several pictures cannot tell them apart, so that a perfect reader finds less than 100 %.
    """
    from itr_lib.data.scenes import truth_matrix
    from itr_lib.evaluation import ceiling_scores, expected_recall

    owner = data.image_of_caption
    level = np.zeros((len(data), len(owner)), dtype=np.float32)
    found = {"chance": expected_recall(level, owner) | {name: low for name, (low, _) in KNOWN.items()}}
    if data.truth is not None:
        truth = truth_matrix(data.truth.scenes, data.truth.captions)
        best = expected_recall(ceiling_scores(truth), owner)
        found["ceiling"] = best | {name: high for name, (_, high) in KNOWN.items()}
    return found


def is_percent(metric: str) -> bool:
    """Whether a metric can stand among bars from 0 to 100."""
    return not any(part in metric for part in NO_PERCENT)


def show_rows(
    rows: Sequence[Row], lines: Mapping[str, Run], metrics: Sequence[str], title: str = "", bars: bool = True
) -> None:
    """Bars with ``lines`` (chance, ceiling) across them, and a table in which these stand last.

    Raises ``ValueError`` for a metric that no row has.
    """
    from IPython.display import display

    from itr_lib import figures

    expect_measured(rows, metrics)
    drawn = [metric for metric in metrics if is_percent(metric)] if bars else []
    if drawn:
        names = [metric_title(metric).replace(" R@", "\nR@") for metric in drawn]
        figures.show(figures.recall_bars({row.name: row.runs for row in rows}, lines, drawn, title, names))
    known = [Row(name, [found]) for name, found in lines.items() if any(metric in found for metric in metrics)]
    table = table_html([*rows, *known], metrics, "" if drawn else title)
    display({"text/html": table, "text/plain": table_text([*rows, *known], metrics)}, raw=True)


def expect_measured(rows: Sequence[Row], metrics: Sequence[str]) -> None:
    """Raise ``ValueError`` for metrics that no row has, with those that there are."""
    known = sorted({metric for row in rows for run in row.runs for metric in run})
    unknown = [metric for metric in metrics if metric not in known]
    if unknown or not metrics:
        told = ", ".join(map(repr, unknown)) or "nothing"
        raise ValueError(f"metrics names {told}: these rows have {', '.join(known)}")


def table_html(rows: Sequence[Row], metrics: Sequence[str], title: str = "") -> str:
    """A row a model, a column a metric: the mean and, small below it, lowest to highest over the seeds.

    Rows of this run are bold and marked. No colour of text or ground is set: the page's own serve in light and dark.
    """
    heads = "".join(f'<th scope="col" style="{RIGHT}">{html.escape(metric_title(m))}</th>' for m in metrics)
    lines = "".join(f"<tr>{_head(row)}{''.join(_cell(row, metric) for metric in metrics)}</tr>" for row in rows)
    caption = f'<caption style="text-align: left">{html.escape(title)}</caption>' if title else ""
    head = f'<thead><tr><th scope="col" style="text-align: left">{_what_stands_there(rows)}</th>{heads}</tr></thead>'
    return f'<table class="comparison" style="color: inherit">{caption}{head}<tbody>{lines}</tbody></table>'


def _what_stands_there(rows: Sequence[Row]) -> str:
    several = any(len(row.runs) > 1 for row in rows)
    return '<small style="font-weight: normal">mean<br>lowest to highest</small>' if several else ""


def _head(row: Row) -> str:
    seeds = f'<br><small style="font-weight: normal">{len(row.runs)} seeds</small>' if len(row.runs) > 1 else ""
    mark = '<br><small style="font-weight: normal">▸ this run</small>' if row.this_run else ""
    weight, edge = ("bold", "3px solid #0173b2") if row.this_run else ("normal", "3px solid transparent")
    style = f"text-align: left; font-weight: {weight}; border-left: {edge}; padding: 0.15em 0.6em"
    return f'<th scope="row" style="{style}">{html.escape(row.name)}{mark}{seeds}</th>'


def _cell(row: Row, metric: str) -> str:
    mean, spread = mean_and_range(row.values(metric), metric)
    below = f'<br><small style="font-weight: normal">{spread}</small>' if spread else ""
    weight = "; font-weight: bold" if row.this_run else ""
    return f'<td style="{RIGHT}{weight}">{mean}{below}</td>'


def table_text(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """The same table as text, for pages that show no HTML."""
    lines = []
    for row in rows:
        told = [f"{metric_title(m)} {' · '.join(filter(None, mean_and_range(row.values(m), m)))}" for m in metrics]
        lines.append(f"{row.name}{' (this run)' if row.this_run else ''}: {', '.join(told)}")
    return "\n".join(lines)


def mean_and_range(values: Sequence[float], metric: str) -> tuple[str, str]:
    """The mean, and lowest to highest of several values; a dash for none."""
    if not values:
        return "–", ""
    digits = 2 if any(part in metric for part in ("ndcg", "structure")) else 3 if metric == "loss" else 1
    spread = f"{min(values):.{digits}f} to {max(values):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}", spread


def metric_title(metric: str) -> str:
    """A metric as the head of a column."""
    from itr_lib.figures import metric_name

    return NAMES.get(metric, metric_name(metric, " "))
