"""The report: one HTML page, readable offline, with a run's times, metrics, key figures and lessons."""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path

from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

from itr_lib.course.build import read_notebook
from itr_lib.course.markdown import body
from itr_lib.lessons.leaderboard import cost_table, load_board, published_table, quality_table

NO_ALT = "No description has been provided for this image"


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into the folder of a run and return its path.

    Raises ``ValueError`` where no run left its ``summary.json``.
    """
    summary = folder / "summary.json"
    if not summary.exists():
        raise ValueError(f"{folder.name}/ holds no run yet: run `make course PROFILE={folder.name}`")
    run = json.loads(summary.read_text(encoding="utf-8"))
    notebooks = {r["lesson"]: read_notebook(Path(folder / f"{r['lesson']}.ipynb")) for r in run["results"]}
    path = folder / "report.html"
    path.write_text(page(run, notebooks), encoding="utf-8")
    return path


def page(run: dict, notebooks: dict[str, NotebookNode | None]) -> str:
    """The whole page. ``run`` is the content of ``summary.json``, ``notebooks`` the executed lessons by name."""
    options, results = run["options"], run["results"]
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    style += HtmlFormatter(style="xcode", nobackground=True).get_style_defs(".highlight")
    facts = [f"profile {options['profile']}", f"data {options['data']}", f"device {options['device']}"]
    facts += [f"seed {options['seed']}", f"{options['copies']} copies"]
    parts = [
        "<h1 id='top'>Image-text retrieval: the course's run</h1>",
        f"<p class='lead'>{escape(' · '.join(facts))}</p>",
        _summary(results),
        _unjudged(results),
        "<h2 id='metrics'>Metrics</h2>",
        _metrics(results),
        _leaderboard(options["data"]),
        _figures(notebooks),
        "<h2 id='lessons'>Lessons</h2>",
        *[_lesson(result, notebooks[result["lesson"]]) for result in results],
        "<footer>Made by <code>make course</code>. This page needs no network.</footer>",
    ]
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>Image-text retrieval: report</title><style>{style}</style></head>\n"
        f"<body>{_navigation(results, notebooks, options['data'])}<main>{_join(parts)}</main>{OPENER}</body></html>\n"
    )


# A link to a heading inside a folded lesson must unfold it first.
OPENER = """<script>
const unfold = () => { const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const lesson = target && target.closest('details.lesson');
  if (lesson) { lesson.open = true; target.scrollIntoView(); } };
addEventListener('hashchange', unfold); unfold();
</script>"""


def _join(parts: list[str]) -> str:
    return "\n".join(part for part in parts if part)


def _navigation(results: list[dict], notebooks: dict[str, NotebookNode | None], data: str) -> str:
    links = ["<a href='#top'>Summary</a>", "<a href='#metrics'>Metrics</a>"]
    if load_board(data):
        links.append("<a href='#leaderboard'>Leaderboard</a>")
    if any(key_figures(notebook) for notebook in notebooks.values()):
        links.append("<a href='#figures'>Key figures</a>")
    for result in results:
        name = result["lesson"]
        links.append(f"<a href='#{name}'>{escape(title(name, notebooks[name]))}</a>")
    return f"<nav><b>Image-text retrieval</b>{''.join(links)}</nav>"


def title(name: str, notebook: NotebookNode | None) -> str:
    """A lesson's number and its first heading."""
    headings = re.findall(r"^# +(.+)$", "\n".join(_prose(notebook)), flags=re.M)
    number, _, words = name.partition("_")
    heading = headings[0] if headings else words.replace("_", " ")
    return heading if heading.startswith(number) else f"{number} · {heading}"


def _prose(notebook: NotebookNode | None) -> list[str]:
    return [cell.source for cell in (notebook.cells if notebook else []) if cell.cell_type == "markdown"]


def _summary(results: list[dict]) -> str:
    rows = [
        "<tr><th>Lesson<th>Status<th class='n'>Time<th class='n'>Budget<th class='n'>Peak memory"
        "<th class='n'>Metrics</tr>"
    ]
    for r in results:
        late = " class='n out'" if r["seconds"] > r["budget"] else " class='n'"
        kind = r["status"].replace(" ", "-")
        rows.append(
            f"<tr><td><a href='#{r['lesson']}'>{escape(r['lesson'])}</a>"
            f"<td><span class='status {kind}'>{escape(r['status'])}</span>"
            f"<td{late}>{r['seconds']:.0f} s<td class='n'>{r['budget']:.0f} s"
            f"<td class='n'>{r['peak_memory_mb']:.0f} MB{_of_the_gpu(r)}<td class='n'>{len(r['metrics'])}</tr>"
        )
    problems = [
        f"<pre class='problem'><b>{escape(r['lesson'])}</b>\n{escape(chr(10).join(r['problems']))}</pre>"
        for r in results
        if r["problems"]
    ]
    return f"<div class='wide'><table>{''.join(rows)}</table></div>{''.join(problems)}"


def _of_the_gpu(result: dict) -> str:
    """What a lesson took of the GPU's own memory, beside the host's; nothing on a CPU."""
    taken = result.get("peak_gpu_memory_mb", 0)
    return f"<br>GPU {taken:.0f} MB" if taken else ""


def _unjudged(results: list[dict]) -> str:
    """A sentence where lessons ran without bands: what is not judged must not look as if it had passed."""
    names = [r["lesson"] for r in results if r["status"] == "no bands"]
    if not names:
        return ""
    return (
        f"<p class='lead'><b>No bands:</b> nothing is expected of {escape(', '.join(names))} in this profile and on"
        " these data, so nothing judged their numbers.</p>"
    )


def _metrics(results: list[dict]) -> str:
    rows = ["<tr><th>Lesson<th>Metric<th class='n'>Value<th>Expected<th class='n'>Seeds<th></tr>"]
    for r in results:
        for name in [*r["metrics"], *(name for name in r["bands"] if name not in r["metrics"])]:
            rows.append(_metric_row(r["lesson"], name, r["metrics"].get(name), r["bands"].get(name)))
    if len(rows) == 1:
        return "<p class='lead'>No lesson recorded a metric.</p>"
    return f"<div class='wide'><table>{''.join(rows)}</table></div>"


def _metric_row(lesson: str, name: str, value: float | None, band: dict | None) -> str:
    expected, seeds, kind, word = "", "", "none", "no band"
    if band:
        expected, seeds = f"{band['low']:g} to {band['high']:g}", str(band["seeds"])
        if value is None:
            kind = word = "missing"
        else:
            kind = word = "in" if band["low"] <= value <= band["high"] else "out"
            word += " of band" if word == "out" else " band"
    shown = "–" if value is None else f"{value:.4g}"
    return (
        f"<tr><td>{escape(lesson)}<td><code>{escape(name)}</code><td class='n'>{shown}<td>{expected}"
        f"<td class='n'>{seeds}<td><span class='status {kind}'>{word}</span></tr>"
    )


def _leaderboard(data: str) -> str:
    board = load_board(data)
    if board is None:
        return ""
    quality, cost, published = (
        f"<div class='wide'>{table.to_html(border=0, justify='left')}</div>"
        for table in (quality_table(board), cost_table(board), published_table())
    )
    seeds, gallery = len(board["systems"][0]["seeds"]), f"{board['gallery']:,} images to search"
    made = f"<code>{escape(board['command'])}</code> from <code>{escape(board['runs_from'])}</code>"
    return (
        f"<h2 id='leaderboard'>Leaderboard</h2><p class='lead'>Not of this run: recorded, profile {board['profile']},"
        f" {seeds} seeds, mean and lowest to highest, {gallery}. Made by {made}.</p>{quality}{cost}"
        f"<p class='lead'>Published, on other data and with far larger encoders: R@1, R@5, R@10.</p>{published}"
    )


def key_figures(notebook: NotebookNode | None) -> list[tuple[str, str]]:
    """(section, ``<img>`` with its alt text) of each figure in cells tagged ``key-figure``, else of the first."""
    tagged, untagged, heading = [], [], ""
    for cell in notebook.cells if notebook else []:
        if cell.cell_type == "markdown":
            found = re.findall(r"^#{1,2} +(.+)$", cell.source, flags=re.M)
            heading = found[-1] if found else heading
            continue
        kept = tagged if "key-figure" in cell.metadata.get("tags", []) else untagged
        for output in cell.get("outputs", []):
            shown = "".join(output.get("data", {}).get("text/html", ""))
            kept += [(heading, image) for image in re.findall(r'<img [^>]*src="data:image/[^>]*>', shown)]
    return tagged or untagged[:1]


def _figures(notebooks: dict[str, NotebookNode | None]) -> str:
    figures = [
        f"<figure>{image}"
        f"<figcaption><a href='#{name}'>{escape(title(name, notebook))}</a> · {escape(heading)}</figcaption></figure>"
        for name, notebook in notebooks.items()
        for heading, image in key_figures(notebook)
    ]
    return f"<h2 id='figures'>Key figures</h2><div class='figures'>{''.join(figures)}</div>" if figures else ""


def _lesson(result: dict, notebook: NotebookNode | None) -> str:
    name = result["lesson"]
    inside = "<p class='lead'>This lesson left no notebook.</p>"
    if notebook is not None:
        inside = body(notebook, Path(__file__).resolve().parents[2] / "solutions")
        inside = inside.replace(NO_ALT, f"Figure of lesson {escape(name)}")
        inside = inside.replace('href="../docs/', 'href="../../docs/')  # seen from runs/<profile>/, not from notebooks/
        # headings of two lessons may read the same: make their anchors differ
        inside = re.sub(r'(<h[1-6] id=")', rf"\1{name}-", inside)
    kind = result["status"].replace(" ", "-")
    return (
        f"<details class='lesson' id='{name}'><summary>{escape(title(name, notebook))} "
        f"<span class='status {kind}'>{escape(result['status'])}</span></summary>"
        f"<div class='cells'>{inside}</div></details>"
    )
