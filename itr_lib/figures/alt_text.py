"""What a figure says to someone who cannot see it, read off the figure itself: titles, axes, and the data in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, QuadMesh
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation

LONGEST = 400  # letters: about twenty-five seconds read aloud
MORE = "There is more in the figure."
SPOKEN = {"→": " to ", "✓": "right: ", "✗": "wrong: ", "▸": ", preferred: ", "·": ", "}


def alt_text(figure: Figure) -> str:
    """Title, then what each panel shows, in sentences of up to :data:`LONGEST` letters together.

    Of a line its label, first and last value; of bars their labels and heights; of a heat map its size and the scale
    of its colours; of a table its header; of pictures how many and their captions; of a diagram its words.
    """
    panels = [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]
    pictures = [axis for axis in panels if _is_picture(axis)]
    sentences = [_plain(figure.get_suptitle())]
    if len(pictures) > 1:
        captions = [caption for axis in pictures if re.search(r"[^\W\d]", caption := _caption(axis))]  # no bare scores
        under = f": {'; '.join(captions)}" if captions else ""
        sentences.append(f"{len(pictures)} pictures{under}")
    for axis in panels:
        if not (_is_picture(axis) and len(pictures) > 1):
            sentences += _panel(axis)
    return _shortened([sentence for sentence in sentences if sentence]) or "A figure."


def _panel(axis: Axes) -> list[str]:
    """Sentences on one panel: its title, its axes, its data."""
    title = _plain(axis.get_title()) or _plain(axis.get_title(loc="left"))
    across, up = _plain(axis.get_xlabel()), _plain(axis.get_ylabel())
    axes = f"{up} against {across}" if up and across else f"Axis: {up or across}" if up or across else ""
    data = [*_images(axis), *_tables(axis), *_bars(axis), *_lines(axis), *_points(axis)]
    words = list(dict.fromkeys(word for text in axis.texts if (word := _plain(text.get_text()))))
    if words and not (data and axis.axison):  # without axes it is a diagram: its lines are arrows and frames
        pictures = ["A picture"] if _is_picture(axis) else []
        data = [*pictures, f"It reads: {', '.join(words)}"]
    return [title, axes, *data]


def _is_picture(axis: Axes) -> bool:
    return any(image.get_array() is not None and image.get_array().ndim == 3 for image in axis.images)


def _caption(axis: Axes) -> str:
    said = [axis.get_title(), axis.get_title(loc="left"), axis.get_xlabel(), *(text.get_text() for text in axis.texts)]
    return next((plain for text in said if (plain := _plain(text))), "")


def _images(axis: Axes) -> Iterator[str]:
    """Heat maps with their size and scale; a photograph is a picture."""
    if _is_picture(axis):
        yield "A picture"
        return
    for drawn in [*axis.images, *(mesh for mesh in axis.collections if isinstance(mesh, QuadMesh))]:
        values, (low, high) = np.ma.asarray(drawn.get_array()), drawn.get_clim()
        rows, columns = values.shape
        row, column = np.unravel_index(int(values.argmax()), values.shape)
        scale = f"coloured from {_number(low)} to {_number(high)} ({drawn.get_cmap().name})"
        highest = f"highest {_number(values.max())} in {_cell(axis, int(row), int(column), values.shape)}"
        yield f"Heat map of {rows} by {columns} (rows by columns), {scale}, {highest}"


def _cell(axis: Axes, row: int, column: int, shape: tuple[int, int]) -> str:
    """A cell by the names of its row and column, where the axes have names for all of them."""
    rows, columns = (
        [_plain(tick.get_text()) for tick in ticks()] for ticks in (axis.get_yticklabels, axis.get_xticklabels)
    )
    if (len(rows), len(columns)) == shape and all(re.search(r"[^\W\d]", name) for name in rows + columns):
        return f"{rows[row]}, {columns[column]}"
    return f"row {row}, column {column}"


def _tables(axis: Axes) -> Iterator[str]:
    for table in axis.tables:
        cells = table.get_celld()
        header = [_plain(cells[place].get_text().get_text()) for place in sorted(cells) if place[0] == 0]
        yield f"A table with the columns {', '.join(word for word in header if word)}"


def _bars(axis: Axes) -> Iterator[str]:
    """Each group of bars with its label: the name of each bar and its height, or of numbered bars their range."""
    for bars in axis.containers:
        if not isinstance(bars, BarContainer):
            continue
        across = getattr(bars, "orientation", "vertical") == "horizontal"
        told = [(_tick(axis, bar, across), bar.get_width() if across else bar.get_height()) for bar in bars.patches]
        told = [(name, height) for name, height in told if np.isfinite(height)]
        named = [f"{name} {_number(height)}" for name, height in told if re.search(r"[^\W\d]", name)]
        if len(named) < len(told) or not told:
            named = [f"{len(told)} of them, {_range(np.array([height for _, height in told]))}"] if told else []
        yield f"{_label(bars) or 'Bars'}: {', '.join(named)}" if named else ""


def _lines(axis: Axes) -> Iterator[str]:
    """Lines by their labels, from the first value to the last; of lines without any, how many there are."""
    lines = [line for line in axis.lines if line.get_linestyle() not in ("None", "", " ") and len(line.get_xdata())]
    named = [line for line in lines if _label(line)]
    for line in named:
        yield f"{_label(line)} {_course(line)}"
    if len(lines) - len(named) == 1:
        yield f"A line {next(_course(line) for line in lines if not _label(line))}"
    elif lines and not (named or axis.collections or axis.containers):
        yield f"{len(lines)} lines"
    for lines_together in axis.collections:
        if isinstance(lines_together, LineCollection) and _label(lines_together):
            heights = np.concatenate([segment[:, 1] for segment in lines_together.get_segments()])
            yield f"{_label(lines_together)} at {_range(heights)}"


def _points(axis: Axes) -> Iterator[str]:
    """Clouds of points with a label, and single labelled marks."""
    for cloud in axis.collections:
        if isinstance(cloud, PathCollection) and len(cloud.get_offsets()):
            yield f"{len(cloud.get_offsets())} points{': ' + _label(cloud) if _label(cloud) else ''}"
    for line in axis.lines:
        if line.get_linestyle() in ("None", "", " ") and _label(line):
            x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
            where = f" at {_number(x[0])}, {_number(y[0])}" if len(x) == 1 else f", {len(x)} points"
            yield f"{_label(line)}{where}"
    for text in axis.texts:  # a name beside its point
        if isinstance(text, Annotation) and axis.axison and text.xycoords == "data" and _plain(text.get_text()):
            x, y = text.xy
            yield f"{_plain(text.get_text())} at {_number(x)}, {_number(y)}"


def _course(line: Line2D) -> str:
    """``"from 6.5 to 25.6"``, with its peak or its lowest point where that lies clearly between the ends.

    Of an upright line, where it stands: ``"at step 160"``.
    """
    across = np.asarray(line.get_xdata(), dtype=float)
    if len(across) > 1 and np.ptp(across) == 0:
        return f"at {_plain(line.axes.get_xlabel())} {_number(across[0])}".replace("  ", " ")
    values = np.asarray(line.get_ydata(), dtype=float)
    values = values[np.isfinite(values)]
    if not len(values):
        return "without a value"
    first, last = values[0], values[-1]
    if np.ptp(values) == 0:
        return f"at {_number(first)}"
    told = f"from {_number(first)} to {_number(last)}"
    aside = 0.1 * np.ptp(values)
    if values.max() > max(first, last) + aside:
        told += f", in between up to {_number(values.max())}"
    if values.min() < min(first, last) - aside:
        told += f", in between down to {_number(values.min())}"
    return told


def _range(values: np.ndarray) -> str:
    low, high = float(values.min()), float(values.max())
    return _number(low) if low == high else f"{_number(low)} to {_number(high)}"


def _tick(axis: Axes, bar: Rectangle, across: bool) -> str:
    """What stands at the tick next to a bar."""
    ticks, labels = (
        (axis.get_yticks(), axis.get_yticklabels()) if across else (axis.get_xticks(), axis.get_xticklabels())
    )
    if not len(ticks):
        return ""
    middle = bar.get_y() + bar.get_height() / 2 if across else bar.get_x() + bar.get_width() / 2
    return _plain(labels[int(np.abs(np.asarray(ticks, dtype=float) - middle).argmin())].get_text())


def _label(artist: Line2D | BarContainer | LineCollection | PathCollection) -> str:
    """Its label in the legend; matplotlib's own ones begin with an underscore."""
    label = str(artist.get_label() or "")
    return "" if label.startswith("_") else _plain(label)


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return "almost 0" if 0 < abs(value) < 1e-3 else f"{value:.3g}"


def _plain(text: str) -> str:
    """One line without the marks of formulas, signs as words."""
    text = re.sub(r"\\(?:mathbf|mathrm|text|hat)\b", "", text)
    for sign, word in SPOKEN.items():
        text = text.replace(sign, word)
    text = re.sub(r"\s+,", ",", " ".join(re.sub(r"[$\\{}_^]", "", text).split()))
    return text.lstrip(", ").rstrip(".: ")


def _shortened(sentences: Sequence[str]) -> str:
    """As many sentences as fit; the next one ends at a word, with an ellipsis, if some of it fits."""
    told = ""
    for sentence in sentences:
        sentence = sentence[0].upper() + sentence[1:] if sentence[0].isascii() else sentence  # a Greek letter is a name
        longer = f"{told} {sentence}{'' if sentence[-1] in '?!…' else '.'}".strip()
        if len(longer) > LONGEST - len(MORE) - 1:
            room = LONGEST - len(MORE) - len(told) - 4
            cut = sentence[:room].rsplit(" ", 1)[0].rstrip(",;:. ") + " … " if room > 40 else ""
            return f"{told} {cut}{MORE}".strip()
        told = longer
    return told
