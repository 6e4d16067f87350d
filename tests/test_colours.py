"""Colours: text and lines stand out from their ground, light and dark, and what is told by colour can be told apart.

Contrast as in the Web Content Accessibility Guidelines 2.2: 4.5 for text (1.4.3, level AA), 3 for large text and for
whatever else carries a meaning (1.4.11). How colours look to those who see fewer of them: the matrices of Machado,
Oliveira and Fernandes (IEEE TVCG 15(6), 2009, severity 1.0), on linear RGB. Differences are distances in CIELAB.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import seaborn as sns
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from pygments.styles import get_style_by_name

from itr_lib import figures
from itr_lib.figures.explorer import PAGE_STYLE

REPO = Path(__file__).resolve().parents[1]
TEXT, SHAPE, APART = 4.5, 3.0, 15.0
LIGHT, DARK = "#ffffff", "#111111"  # JupyterLab's grounds of outputs
SEEN_BY = {
    "all colours": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
# Every colour that stands in the code of figures, lessons and reports: what it is for, and the grounds that it is on.
# "ground": carries no meaning by itself; what stands on it is held against it.
ROLES = {
    "figures/_draw.py": {
        "#117733": (TEXT, [LIGHT]), "#8c8c8c": (SHAPE, [LIGHT]), "#555555": (TEXT, [LIGHT, "#f4f4f4"]),
        "#ffd92f": (SHAPE, ["#222222"]),  # boxes on photographs have a dark seam
        **{colour: (SHAPE, [LIGHT]) for colour in ("#0173b2", "#c96a00", "#4e2700", "#c2185b", "#9d3bff")},
        **{colour: (SHAPE, [LIGHT]) for colour in ("#3b149d", "#890076")},
    },
    "figures/alignment.py": {
        "#56b4e9": (SHAPE, ["#222222"]), "#222222": (SHAPE, ["#ffd92f", "#56b4e9", LIGHT]), "#b2182b": (TEXT, [LIGHT]),
        "#8c8c8c": (SHAPE, [LIGHT]), "#555555": (SHAPE, [LIGHT]),
    },
    "figures/explorer.py": {
        "#222": (TEXT, ["#f5f5f5", "#ffd92f"]),  # a word on its chip, from the palest to the yellowest
        "#fff": (SHAPE, ["#222222", DARK]),  # a ring around the chosen chip, and faint boxes, whose seam is dark
        "#0173b2": (SHAPE, [LIGHT, DARK]),  # the focus
    },
    "figures/gallery.py": {"#444444": (TEXT, [LIGHT])},
    "figures/scores.py": {"#8c8c8c": (SHAPE, [LIGHT]), "#f4f4f4": "ground"},
    "figures/training.py": {"#f4f4f4": "ground", "#c9c9c9": "ground"},
    "figures/two_stage.py": {"#dddddd": "ground", "#8c8c8c": (SHAPE, [LIGHT])},
    "lessons/compare.py": {"#0173b2": (SHAPE, [LIGHT, DARK])},
}  # fmt: skip
FILES = [*(REPO / "itr_lib/figures").glob("*.py"), *(REPO / "itr_lib/lessons").glob("*.py")]
LITERAL = re.compile(r"#[0-9a-fA-F]{6}\b|#[0-9a-fA-F]{3}\b")


def linear(colour: object) -> np.ndarray:
    """Linear RGB of an sRGB colour."""
    values = np.array(to_rgb(colour))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(first: object, second: object) -> float:
    """From 1, no difference, to 21, black on white."""
    dark, light = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (first, second))
    return (light + 0.05) / (dark + 0.05)


def lab(colour: object, seen_by: str = "all colours") -> np.ndarray:
    """CIELAB, white point D65, of a colour as somebody sees it."""
    rgb = np.clip(np.array(SEEN_BY[seen_by]) @ linear(colour), 0, 1)
    xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]] @ rgb
    relative = xyz / [0.95047, 1, 1.08883]
    x, y, z = np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def closest(colours: list) -> float:
    """The smallest difference of any two, to anybody."""
    return min(
        float(np.linalg.norm(lab(first, who) - lab(second, who)))
        for who in SEEN_BY
        for first, second in itertools.combinations(colours, 2)
    )


# --- the measures themselves


def test_contrast_is_the_one_of_the_guidelines() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # the well-known grey that just fails
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)


def test_lab_and_what_others_see() -> None:
    assert lab("#ffffff") == pytest.approx([100, 0, 0], abs=0.02)
    assert lab("#ff0000") == pytest.approx([53.24, 80.09, 67.20], abs=0.02)
    for who in SEEN_BY:
        assert lab("#808080", who) == pytest.approx(lab("#808080"), abs=0.5)  # greys are what they were
    red, green = "#d62728", "#7a7a00"
    assert closest([red, green]) < APART < np.linalg.norm(lab(red) - lab(green))


# --- figures, on white


def test_lines_and_bars_stand_out_and_can_be_told_apart() -> None:
    faint = [colour for colour in figures.COLOURS if contrast(colour, LIGHT) < SHAPE]
    assert not faint and len(figures.COLOURS) >= 8
    assert closest(figures.COLOURS) >= APART


def test_a_well_known_palette_would_not_do() -> None:
    palette = sns.color_palette("colorblind", 8)
    assert closest(palette) < APART and min(contrast(colour, LIGHT) for colour in palette) < 2


def test_a_match_and_a_miss_differ_to_everybody() -> None:
    assert closest([figures.MATCH, figures.MISS]) >= APART
    assert closest([figures.MATCH, "#b2182b"]) < APART  # green and red: so marks say it, too
    assert {"✓", "✗"} <= set((REPO / "itr_lib/figures/alignment.py").read_text())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_colour_in_the_code_has_a_role_that_it_fills(path: Path) -> None:
    roles = ROLES.get(path.relative_to(REPO / "itr_lib").as_posix(), {})
    assert set(LITERAL.findall(path.read_text())) == set(roles), "a new colour: say what it is for and on which ground"
    for colour, role in roles.items():
        least, grounds = (0, []) if role == "ground" else role
        for ground in grounds:
            assert contrast(colour, ground) >= least, f"{colour} on {ground}: {contrast(colour, ground):.2f}"


def over(colour: object, ground: object) -> np.ndarray:
    """A translucent colour on an opaque ground."""
    *rgb, alpha = to_rgba(colour)
    return alpha * np.array(rgb) + (1 - alpha) * np.array(to_rgb(ground))


def ground_of(text: plt.Text, figure: Figure) -> np.ndarray:
    """What lies below the middle of a text: white, and the filled patches of its axes there, in their order."""
    ground = np.array(to_rgb(LIGHT))
    box = text.get_window_extent()
    middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
    for patch in text.axes.patches if text.axes else []:
        if isinstance(patch, Patch) and patch.get_fill() and patch.contains_point(middle):
            ground = over(patch.get_facecolor(), ground)
    if text.get_bbox_patch() is not None:
        ground = over(text.get_bbox_patch().get_facecolor(), ground)
    return ground


def faint_texts(figure: Figure) -> dict[str, float]:
    """Texts with less contrast than they need: 3 if they are large (18 points, or 14 and bold)."""
    figure.canvas.draw()
    found = {}
    for text in figure.findobj(plt.Text):
        if not text.get_text().strip() or not text.get_visible():
            continue
        size, bold = text.get_fontsize(), text.get_fontweight() in ("bold", 700)
        have = contrast(over(text.get_color(), ground_of(text, figure)), ground_of(text, figure))
        if have < (SHAPE if size >= 18 or (size >= 14 and bold) else TEXT):
            found[text.get_text()] = round(have, 2)
    return found


DRAWN = {
    "two encoders": figures.two_encoders,
    "batch and queue": figures.batch_and_queue,
    "ring": figures.ring_diagram,
    "guide": figures.guide_diagram,
    "tgdt": figures.tgdt_diagram,
    "two stages": figures.two_stage_diagram,
    "poolings": figures.pooling_diagram,
    "attended": lambda: figures.attended_vectors(np.eye(2), np.array([1.0, 0.0]), (1.0, 0.1), ""),
}


@pytest.mark.parametrize("name", DRAWN)
def test_words_in_a_drawing_can_be_read(name: str) -> None:
    figure = DRAWN[name]()
    assert not faint_texts(figure)
    plt.close(figure)


def test_faint_words_are_found() -> None:
    figure, axis = plt.subplots()
    axis.axis("off")
    axis.add_patch(plt.Rectangle((0, 0), 0.5, 1, fc="#117733"))
    axis.text(0.25, 0.5, "black on green", ha="center")
    axis.text(0.75, 0.5, "grey", color="#999999", ha="center")
    axis.text(0.75, 0.2, "large", color="#888888", fontsize=18, ha="center")
    assert set(faint_texts(figure)) == {"black on green", "grey"}
    plt.close(figure)


# --- pages, light and dark


def test_the_explorer_sets_no_colour_of_its_own_on_a_ground_that_is_the_page_s() -> None:
    """Text outside the chips takes JupyterLab's colour, or whatever surrounds it: dark in light, light in dark."""
    rules = dict(re.findall(r"^([.\w :+~-]+?) \{(.*?)\}$", PAGE_STYLE.replace("\n  ", " "), flags=re.MULTILINE))
    colours = {
        rule: re.findall(r"(?<![\w-])color: ([^;}]+?) *(?:;|$)", text)
        for rule, text in rules.items()
        if "color" in text
    }
    assert colours[".itr-page"] == ["var(--jp-ui-font-color1, inherit)"]
    assert colours[".itr-words p"] == ["var(--jp-ui-font-color2, inherit)"]
    assert colours[".itr-chip"] == ["#222"]
    assert sum(map(len, colours.values())) == 3


def test_chips_can_be_read_at_every_shade() -> None:
    for shade in np.linspace(0, 1, 11):
        ground = (245 + shade * (np.array([255, 217, 47]) - 245)) / 255
        assert contrast("#222", ground) >= TEXT


def css_colours() -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#\w{6})", (REPO / "itr_lib/course/report.css").read_text()))


def test_the_report_can_be_read() -> None:
    """It sets its own grounds, so it looks the same in light and dark."""
    colour = css_colours()
    pairs = [(ink, ground) for ink in ("ink", "soft", "accent") for ground in ("paper", "wash")]
    pairs += [(kind, f"{kind}-wash") for kind in ("good", "bad", "warn")] + [("warn", "paper"), ("warn", "wash")]
    for ink, ground in pairs:
        assert contrast(colour[ink], colour[ground]) >= TEXT, f"{ink} on {ground}"
    text = (REPO / "itr_lib/course/report.css").read_text()
    used = {name for rule in re.findall(r"[^-]color: var\(--([\w-]+)\)", text) for name in [rule]}
    assert used <= {ink for ink, _ in pairs}, "a colour of text that is not looked at here"
    assert not LITERAL.findall(text.partition("}")[2]), "a colour beside the list at the top"


def test_code_in_the_report_can_be_read() -> None:
    style = re.search(r'HtmlFormatter\(style="(\w+)"', (REPO / "itr_lib/course/report.py").read_text())[1]
    inks = {f"#{token['color']}" for _, token in get_style_by_name(style) if token["color"]}
    assert {ink for ink in inks if contrast(ink, css_colours()["wash"]) < TEXT} == set()
