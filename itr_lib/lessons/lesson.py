"""The lesson under way, as a notebook calls it: its data, its training, its comparisons, its clock and its metrics."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, SupportsFloat

from itr_lib.desk import panel
from itr_lib.files import write_whole
from itr_lib.lessons.machine import choose_device, expect_works, peak_gpu_memory_mb, peak_memory_mb, versions
from itr_lib.lessons.markdown import plain_dollars
from itr_lib.lessons.start import expect_settings, figure_style, quiet, seed_everything

if TYPE_CHECKING:  # torch and transformers are imported by the methods that need them, so that a lesson opens fast
    from matplotlib.figure import Figure
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from itr_lib.data import Splits
    from itr_lib.data.dataset import RetrievalData
    from itr_lib.evaluation import RetrievalMetrics
    from itr_lib.lessons.compare import Value
    from itr_lib.objectives import Objective
    from itr_lib.training import History, TrainConfig


@dataclass
class Lesson:
    """A lesson under way. Made by :func:`open_lesson`.

    Attributes:
        name: the lesson's file name without its ending, e.g. ``"01_global_embeddings"``.
        profile: ``"smoke"``, ``"quick"`` or ``"full"``.
        device: ``"cpu"``, ``"cuda"`` or ``"mps"``, never ``"auto"``.
        seed: what the random number generators started from.
        data: the data set's name, e.g. ``"scenes"``.
        root: the data set's folder, ``""`` for the embedded one.
        metrics: what :meth:`record` was told, in that order.
        splits: the data, once :meth:`load` has read them; a lesson that changes its data assigns them anew.
        tokenizer: that of the training captions, once :meth:`load` has trained it.
    """

    name: str
    profile: str
    device: str
    seed: int
    data: str
    root: str
    metrics: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic, repr=False)
    splits: Splits | None = field(default=None, repr=False)
    tokenizer: PreTrainedTokenizerBase | None = field(default=None, repr=False)
    _references: dict[str, dict[str, float]] = field(default_factory=dict, repr=False)

    @property
    def seconds(self) -> float:
        """Seconds since the lesson was opened."""
        return time.monotonic() - self.started

    def load(self) -> tuple[Splits, PreTrainedTokenizerBase]:
        """The lesson's data, and a tokenizer trained on the training captions; prints how many images there are.

        Raises ``ValueError`` where the data cannot be read.
        """
        from itr_lib.data import load_splits, train_tokenizer

        self.splits = load_splits(self.data, self.root, profile=self.profile)
        self.splits.train.expect_features()
        self.tokenizer = train_tokenizer(self.splits.train.captions)
        if self.data != "scenes":
            print(self.splits.notes)  # of a reader's own files: what was left out, and which split is reported
        parts = [f"{part.split} {len(part):,}" for part in (self.splits.train, self.splits.val, self.splits.test)]
        print(f"images: {', '.join(parts)} · {len(self.tokenizer):,} word pieces")
        return self.splits, self.tokenizer

    def show(self, figure: Figure, alt: str = "") -> None:
        """Display a figure once; its alt text is read off its titles, labels and data where ``alt`` is not given."""
        from itr_lib.figures import show

        show(figure, alt)

    def say(self, text: str) -> None:
        """Display Markdown, for sentences with this run's numbers in them.

        ``$K / B$`` is a formula; other dollar signs, of captions and prices, stay what they are.
        """
        from IPython.display import display

        display({"text/markdown": plain_dollars(text), "text/plain": text}, raw=True)

    def train(
        self,
        model: nn.Module,
        objective: Objective,
        config: TrainConfig,
        data: RetrievalData | None = None,
        label: str = "training",
    ) -> History:
        """Train on the lesson's training split (or on ``data``), with its device, and keep the best epoch's weights.

        Args:
            model: with ``encode_images``, ``encode_captions`` and ``scores``; trained in place.
            objective: any ``(model, batch, epoch) -> loss``.
            config: epochs, batch size, learning rate; see :class:`itr_lib.training.TrainConfig`.
            data: another training set; the epoch is chosen on the lesson's validation split in any case.
            label: what the progress bar and the closing line call it.

        Raises:
            ValueError: before :meth:`load`.
            FloatingPointError: when the loss or its gradient is not finite.
        """
        from itr_lib.training import train

        splits, tokenizer = self._loaded()
        history = train(
            model,
            objective,
            tokenizer,
            splits.train if data is None else data,
            splits.val,
            config,
            device=self.device,
            label=label,
        )
        epochs = history.epochs
        many = f"{len(epochs)} epoch{'' if len(epochs) == 1 else 's'}"
        best = epochs[history.best_epoch]["rsum"]
        print(f"{label}: {many}, {sum(epoch['seconds'] for epoch in epochs):.0f} s; best validation rSum {best:.1f}")
        return history

    def test(self, model: nn.Module) -> tuple[Tensor, RetrievalMetrics]:
        """Scores of the test split, (images, captions) on the CPU, and their metrics. Raises before :meth:`load`."""
        from itr_lib.evaluation import retrieval_metrics
        from itr_lib.inference import score

        splits, tokenizer = self._loaded()
        scores = score(model.to(self.device), tokenizer, splits.test, device=self.device)
        return scores, retrieval_metrics(scores, splits.test.image_of_caption)

    def compare(
        self,
        results: Mapping[str, Value],
        metrics: Sequence[str] = ("i2t_r1", "t2i_r1"),
        title: str = "",
        bars: bool = True,
    ) -> None:
        """Show this run beside recorded ones: bars with a dot a seed, and a table with the spread of the seeds.

        Lines of chance and, where the test split's truth is known, of a perfect reader stand among the bars and in
        the table. What is not recorded for these data is left out, and a sentence says so.

        Args:
            results: by the name of their row, metrics of this run, or of the record the name of a variant (another
                lesson's: ``"02_fine_grained_alignment/TERAN (MrSw)"``), or a variant and its reading, as in
                ``("TGDT", "global")`` for metrics that are kept as ``global_t2i_r1``.
            metrics: names of numbers, one a column; only percentages have bars.
            title: what the comparison shows.
            bars: False leaves the bars out.

        Raises:
            ValueError: for a variant or a metric that does not exist, with those that do; before :meth:`load`.
        """
        from itr_lib.lessons.compare import rows_of_results, show_rows

        rows, absent = rows_of_results(results, self.name, self.data)
        if absent:
            print(f"Not recorded for {self.data}, and left out: {', '.join(absent)}.")
        if rows:
            show_rows(rows, self.references(), metrics, title, bars)

    def runs(self, variant: str) -> list[dict[str, float]]:
        """The recorded metrics of a variant, a dictionary a seed; [] where nothing is recorded for these data.

        Raises ``ValueError`` for a variant that the record does not have, with those that it has.
        """
        from itr_lib.lessons.compare import runs_of_variant

        return runs_of_variant(self.name, variant, self.data) or []

    def recorded(self, variant: str, metric: str) -> list[float]:
        """The recorded values of one metric, one a seed; ``"loss"``: training loss of the last epoch.

        [] where nothing is recorded for these data. Raises ``ValueError`` for an unknown variant or metric.
        """
        runs = self.runs(variant)
        if any(metric not in run for run in runs):
            raise ValueError(f"{variant!r} has no metric {metric!r}: recorded are {', '.join(sorted(runs[0]))}")
        return [float(run[metric]) for run in runs]

    def answer(self, slug: str) -> Callable:
        """The learner's kept answer to an exercise of any lesson, or the library's where none is kept; says which.

        Raises ``ValueError`` for an exercise that does not exist, and where the kept source does not run.
        """
        from itr_lib.checks import kept_or_library

        return kept_or_library(slug)

    def references(self) -> dict[str, dict[str, float]]:
        """Chance and, where the truth is known, ceiling on the test split: metrics in percent by name."""
        from itr_lib.lessons.compare import references

        if not self._references:
            self._references = references(self._loaded()[0].test)
        return self._references

    def clock(self) -> None:
        """Print minutes and seconds since the start."""
        minutes, seconds = divmod(int(self.seconds), 60)
        print(f"{minutes:02d}:{seconds:02d} since the start")

    def record(self, **metrics: SupportsFloat) -> None:
        """Keep numbers for the runner. Raises ``ValueError`` on a name used before or a number not finite."""
        for name, value in metrics.items():
            if name in self.metrics:
                raise ValueError(f"metric {name!r} of {self.name} was recorded before: each name stands once")
            try:
                number = float(value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"metric {name!r} of {self.name} is {value!r}, expected a number") from error
            if not math.isfinite(number):
                raise ValueError(f"metric {name!r} of {self.name} is {number}, expected a finite number")
            self.metrics[name] = number

    def finish(self) -> None:
        """Say what ran on the learner's own code, and write the metrics where a runner listens (``ITR_METRICS``)."""
        folder = os.environ.get("ITR_METRICS")
        if folder:
            path = Path(folder).expanduser() / f"{self.name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(self.summary(), indent=1))
        from itr_lib.checks.answers import whose_code_ran

        if told := whose_code_ran():
            print(told)
        many = "" if len(self.metrics) == 1 else "s"
        print(f"{self.name}: {len(self.metrics)} metric{many} recorded, profile {self.profile}")
        panel.finish_lesson(self.name)

    def summary(self) -> dict:
        """Metrics, time, peak memory of host and GPU, parameters and versions, ready for JSON."""
        return {
            "lesson": self.name,
            "profile": self.profile,
            "data": self.data,
            "device": self.device,
            "seed": self.seed,
            "metrics": self.metrics,
            "seconds": round(self.seconds, 2),
            "peak_memory_mb": round(peak_memory_mb(), 1),
            "peak_gpu_memory_mb": round(peak_gpu_memory_mb(self.device), 1),
            "versions": versions(),
        }

    def _loaded(self) -> tuple[Splits, PreTrainedTokenizerBase]:
        if self.splits is None or self.tokenizer is None:
            raise ValueError("the lesson has no data yet: splits, tokenizer = lesson.load()")
        return self.splits, self.tokenizer


def open_lesson(
    name: str,
    *,
    profile: str = "quick",
    device: str = "auto",
    seed: int = 0,
    data: str = "scenes",
    root: str = "",
) -> Lesson:
    """Seed everything, choose the device, for checks too, set the style of figures, start the clock; say where one is.

    Raises ``ValueError`` for a profile, device, seed or data set that does not exist, for a data set other
    than ``"scenes"`` without a folder, for ``device="cuda"`` or ``"mps"`` where there is no such GPU, and for ``"mps"``
    in a lesson that needs what it lacks.
    """
    from itr_lib.checks.device import run_on

    expect_settings(profile, seed, data, root)
    device = choose_device(device)
    expect_works(name, device)
    run_on(device)
    quiet()
    seed_everything(seed)
    figure_style()
    lesson = Lesson(name, profile, device, seed, data, str(Path(root).expanduser()) if root else "")
    print(f"{name} · profile {profile} · {device} · data {data} · seed {seed}")
    panel.open_lesson(name)
    return lesson
