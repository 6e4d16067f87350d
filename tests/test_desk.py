"""The learner's desk: what a check shows, what is kept of it, what is next."""

from __future__ import annotations

import inspect
import json
import multiprocessing
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import toy_course

from itr_lib.checks import LESSONS, check, library
from itr_lib.checks.wrong import WrongAnswer
from itr_lib.course.__main__ import main
from itr_lib.course.build import build, differences, read_notebook
from itr_lib.desk import catalogue, panel, record
from itr_lib.desk.standing import MANY, standing, table
from itr_lib.lessons.lesson import Lesson

REPO = Path(__file__).resolve().parents[1]


class Kernel:
    """A shell and its kernel, asked by a front end that takes input, or by a program that does not."""

    def __init__(self, allow_stdin: bool):
        self.kernel = self
        self.request = {"content": {"allow_stdin": allow_stdin}}

    def get_parent(self):
        return self.request


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """Where the answers and the record go; nobody is there yet."""
    monkeypatch.setenv("ITR_ANSWERS", str(tmp_path / "my_answers.py"))
    return tmp_path


@pytest.fixture
def shown(desk, monkeypatch):
    """A learner sits there; what is displayed to them."""
    out = []
    monkeypatch.setattr("IPython.get_ipython", lambda: Kernel(True))
    monkeypatch.setattr("IPython.display.display", lambda data, raw: out.append(data))
    return out


def recall_at_k(ranks, k):
    return 100 * (ranks <= k).double().mean()


def share_at_k(ranks, k):
    return (ranks <= k).double().mean()


def marks(folder):
    return [(e.get("exercise", e.get("lesson")), e["verdict"]) for e in record.events(folder / "my_answers.py")[0]]


class Page(HTMLParser):
    """The tags, attributes and text of HTML, which must be well formed."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.styles, self.text = [], [], [], ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.styles.append(dict(attributes).get("style", ""))
        assert not [name for name, _ in attributes if name.startswith("on")]
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


# --- the panel


def test_a_wrong_answer_shows_its_mistake_and_the_next_help_and_stays_an_assertion_error(shown, desk, capsys):
    helps = next(t.helps for t in catalogue.plan_of("recall-at-k").tasks if t.slug == "recall-at-k")
    for tries in range(1, len(helps) + 2):
        with pytest.raises(AssertionError) as caught:
            check("recall-at-k", share_at_k)
        page = Page(shown[-1]["text/html"])
        assert page.text.startswith("✗ recall-at-k: not right yet") and "details" in page.tags
        assert helps[min(tries, len(helps)) - 1][0] in page.text
    error = caught.value
    assert str(error).startswith("recall-at-k: ") and str(error).endswith('share_at_k = library("recall-at-k")')
    assert error.mistake and error.mistake in str(error) and f"<strong>{error.mistake}" in shown[-1]["text/html"]
    assert shown[-1]["text/plain"] in str(error) and 'library("recall-at-k")' in page.text
    assert error._render_traceback_() == ["recall-at-k: not right yet; the panel above says why"]
    assert marks(desk) == [("recall-at-k", "wrong")] * (len(helps) + 1)
    assert capsys.readouterr() == ("", "")


def test_a_right_answer_shows_whose_code_goes_on_and_where_the_learner_is(shown, desk, capsys):
    assert check("recall-at-k", recall_at_k) is recall_at_k
    (data,) = shown
    page = Page(data["text/html"])
    assert page.text.startswith("✓ recall-at-k: the checks in this notebook passed")
    assert "The notebook goes on with yours." in page.text
    assert "lesson 00: 1 of 7 exercises solved, " in page.text and "next: cosine-scores" in page.text
    assert re.fullmatch(
        r"recall-at-k: the checks in this notebook passed \(\d+ cases\)\. The notebook goes on with yours\.",
        data["text/plain"],
    )
    assert marks(desk) == [("recall-at-k", "passed")] and capsys.readouterr() == ("", "")


def test_not_attempted_is_shown_and_not_noted(shown, desk):
    def stub(ranks, k):
        raise NotImplementedError("write your answer to recall-at-k here")

    check("recall-at-k", stub)
    assert Page(shown[0]["text/html"]).text.startswith("○ recall-at-k: not attempted yet") and marks(desk) == []
    assert shown[0]["text/plain"].startswith("recall-at-k: not attempted yet")
    library("recall-at-k")
    assert marks(desk) == [("recall-at-k", "library")]


@pytest.mark.parametrize("kernel", [None, Kernel(False)], ids=["a script", "a program that runs cells"])
def test_where_nobody_sits_a_line_is_printed_and_nothing_noted(desk, monkeypatch, capsys, kernel):
    monkeypatch.setattr("IPython.get_ipython", lambda: kernel)
    monkeypatch.setattr("IPython.display.display", lambda *a, **k: pytest.fail("a panel"))
    check("recall-at-k", recall_at_k)
    with pytest.raises(WrongAnswer) as caught:
        check("recall-at-k", share_at_k)
    assert "\n".join(caught.value._render_traceback_()).startswith("recall-at-k: ")
    panel.open_lesson("00_retrieval_basics")
    panel.finish_lesson("00_retrieval_basics")
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and out.startswith("recall-at-k: the checks in this notebook passed") and err == ""
    assert marks(desk) == [] and not (desk / "my_progress.jsonl").exists()


def test_what_is_shown_is_text_and_has_no_script(shown):
    def own(ranks, k):
        raise ValueError("<script>alert(1)</script> & a < b")

    with pytest.raises(WrongAnswer):
        check("recall-at-k", own)
    page = Page(shown[0]["text/html"])
    assert "script" not in page.tags and "<script>alert(1)</script> & a < b" in page.text
    assert re.search(r"<code [^>]*>    in own, line \d+: raise ValueError", shown[0]["text/html"])


def brightness(colour):
    """Relative luminance of sRGB from 0 to 1 a channel, as WCAG 2 defines it."""
    channels = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]


def contrast(one, other):
    low, high = sorted((brightness(one), brightness(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("ground", "text"), [((1, 1, 1), (0.13, 0.13, 0.13)), ((0.067, 0.067, 0.067), (1, 1, 1))])
def test_it_can_be_read_in_light_and_dark(ground, text):
    """JupyterLab's grounds: white, with text at 87 % black; #111111, with white text. The panel sets neither."""
    *shade, alpha = (float(number) for number in re.findall(r"[\d.]+", panel.SHADE))
    ground = tuple(alpha * s / 255 + (1 - alpha) * g for s, g in zip(shade, ground, strict=True))
    assert contrast(text, ground) >= 4.5
    for sign, bar in panel.SIGNS.values():
        assert sign.strip() and contrast([int(bar[i : i + 2], 16) / 255 for i in (1, 3, 5)], ground) >= 3
    for style in Page(panel.panel("wrong", "a title", ["a part"])).styles:
        assert re.findall(r"(?:^|[ ;])color: ([^;]*)", style) in ([], ["var(--jp-content-font-color1, inherit)"])


# --- the record


def _note(folder, number):
    os.environ["ITR_ANSWERS"] = str(folder / "my_answers.py")
    record.someone_is_there = lambda: True
    for place in range(40):
        record.note(exercise=f"slug-{number}-{place}", verdict="wrong")


def test_two_kernels_may_note_at_once(tmp_path):
    context = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")
    processes = [context.Process(target=_note, args=(tmp_path, number)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    events, unread = record.events(tmp_path / "my_answers.py")
    assert len({event["exercise"] for event in events}) == len(events) == 80 and unread == 0


def test_lines_that_cannot_be_read_are_counted_and_the_next_one_is_whole(shown, desk):
    (desk / "my_progress.jsonl").write_bytes(
        b'{"exercise": 3, "verdict": "wrong"}\n[]\n\n\xff\n{"exercise": "mrsw", "verd'
    )
    check("recall-at-k", recall_at_k)
    assert marks(desk) == [("recall-at-k", "passed")] and record.events(desk / "my_answers.py")[1] == 4
    assert "4 lines of my_progress.jsonl could not be read" in table(standing(desk / "my_answers.py"), "notebooks")


def test_a_folder_that_cannot_be_written_stops_no_check(shown, monkeypatch, tmp_path):
    (tmp_path / "no-folder").touch()
    monkeypatch.setenv("ITR_ANSWERS", str(tmp_path / "no-folder" / "my_answers.py"))
    assert check("recall-at-k", recall_at_k) is recall_at_k
    assert "Not kept for later lessons" in shown[0]["text/plain"]


def write(folder, *events):
    """A record by hand: (exercise or lesson, verdict)."""
    kinds = {True: "lesson", False: "exercise"}
    lines = [json.dumps({kinds["_" in name]: name, "verdict": verdict, "at": ""}) for name, verdict in events]
    (folder / "my_progress.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return standing(folder / "my_answers.py")


# --- where a learner stands


def test_what_to_repeat(tmp_path):
    many = [("ndcg", "wrong")] * MANY
    now = write(
        tmp_path,
        *[("caption-ranks", "wrong")] * (MANY - 1),
        ("caption-ranks", "passed"),
        *many,
        ("ndcg", "too slow"),
        ("image-ranks", "passed"),
        ("image-ranks", "wrong"),
        ("mrsw", "wrong"),
        ("mrsw", "library"),
        ("cosine-scores", "library"),
        ("cosine-scores", "passed"),
        ("pointing", "wrong"),
        ("of-another-course", "wrong"),
    )
    assert now.again() == {
        "image-ranks": "right once, wrong at last",
        "ndcg": f"{MANY} wrong tries",
        "mrsw": "the library's was taken",
        "pointing": "wrong at last",
    }
    assert now.solved == {"caption-ranks", "ndcg", "image-ranks", "cosine-scores"}


def test_what_is_next(tmp_path):
    def following(*events):
        plan, task = write(tmp_path, *events).next()
        return plan.number, task.slug

    solved = [(slug, "passed") for slugs in LESSONS.values() for slug in slugs]
    assert following() == ("00", "cosine-scores")
    assert following(("mrsw", "wrong")) == ("02", "alignments")  # of the lesson last worked on
    assert following(("02_fine_grained_alignment", "finished")) == ("02", "alignments")
    whole = [(slug, "passed") for slug in LESSONS["02"]]
    assert following(*whole) == ("00", "cosine-scores")
    main = [(slug, "passed") for number, slugs in LESSONS.items() if number.isdigit() for slug in slugs]
    assert following(*main) == ("04a", "best-constant")  # appendices last
    assert write(tmp_path, *solved).next() is None
    assert table(write(tmp_path, *solved), "notebooks").endswith("every exercise of the course is solved")
    plan = catalogue.named("02")
    assert write(tmp_path, ("ndcg", "passed")).next(plan)[1].slug == "alignments"


def test_kept_answers_count_without_a_record(tmp_path):
    (tmp_path / "my_answers.py").write_text("# %% mrsw\ndef mrsw(): ...\n")
    now = standing(tmp_path / "my_answers.py")
    assert now.solved == {"mrsw"} and now.again() == {} and now.begun(catalogue.named("02"))


def test_the_table_adds_up(tmp_path):
    events = [(slug, "passed") for slug in LESSONS["00"]] + [("00_retrieval_basics", "finished"), ("mrsw", "passed")]
    lines = table(write(tmp_path, *events), "notebooks").splitlines()
    rows = {line[:4].strip(): line for line in lines if re.search(r"\d+ of \d+ ", line)}
    plans = catalogue.course()
    points = sum(task.points for plan in plans for task in plan.tasks)
    done = sum(t.points for plan in plans for t in plan.tasks if plan.number == "00" or t.slug == "mrsw")
    assert f"8 of {len([s for slugs in LESSONS.values() for s in slugs])}  " in rows["all"]
    assert f"{done} of {points}  " in rows["all"]
    assert rows["00"].endswith("finished") and rows["02"].endswith("begun") and "1 of 7" in rows["02"]
    assert rows["01"].endswith(f"of {sum(task.minutes for task in plans[1].tasks)}")
    assert lines[-1].startswith("next: lesson 02, alignments, ") and lines[-1].endswith(
        "02_fine_grained_alignment.ipynb"
    )
    assert all(len(line) <= 100 for line in lines)


def test_a_lesson_opens_and_ends_with_what_is_next(shown, desk, monkeypatch, capsys):
    write(desk, ("cosine-scores", "passed"), ("caption-ranks", "wrong"))
    tasks = catalogue.named("00").tasks
    panel.open_lesson("00_retrieval_basics")
    assert shown[0]["text/plain"].splitlines() == [
        f"lesson 00: 1 of 7 exercises solved, {tasks[0].points} of {sum(task.points for task in tasks)} points",
        f"next: caption-ranks, {tasks[1].minutes} minutes",
        "worth repeating: caption-ranks",
    ]
    panel.open_lesson("02_fine_grained_alignment")
    assert "still open in lessons before it: 00 (6 of 7), 01 (8 of 8)" in Page(shown[1]["text/html"]).text
    panel.open_lesson("99_of_somebody_else")
    Lesson("00_retrieval_basics", "smoke", "cpu", 0, "scenes", "").finish()
    assert len(shown) == 3 and shown[2]["text/plain"].startswith("the end of lesson 00: 1 of 7 exercises solved")
    assert marks(desk)[-1] == ("00_retrieval_basics", "finished")


# --- the catalogue


def test_the_catalogue_is_what_the_notebooks_say():
    plans = catalogue.course()
    assert {plan.number: tuple(task.slug for task in plan.tasks) for plan in plans} == LESSONS
    for plan in plans:
        cells = read_notebook(REPO / "notebooks" / f"{plan.name}.ipynb").cells
        graded = [cell.metadata.nbgrader for cell in cells if cell.metadata.get("nbgrader", {}).get("grade")]
        assert [task.points for task in plan.tasks] == [marks["points"] for marks in graded]
        prose = "\n".join(cell.source for cell in cells)
        assert plan.title[1:] in prose and f"about {plan.minutes} minutes" in prose
        for task in plan.tasks:
            assert len(task.helps) >= 2 and f"{task.minutes} minute" in prose
            for summary, text in task.helps:
                assert f"<summary>{summary}</summary>" in prose
                page = Page(f"<div>{text}</div>")
                assert page.text.strip() and not {"script", "details"} & set(page.tags) and "$" not in page.text


@pytest.mark.slow
def test_in_a_kernel_a_front_end_that_takes_input_gets_the_panel(tmp_path, monkeypatch):
    """Slow: a kernel that imports torch. Only there does it show what ipykernel passes on of a cell's request."""
    from jupyter_client.manager import KernelManager

    from itr_lib.course.kernels import QUIET

    monkeypatch.setenv("ITR_ANSWERS", str(tmp_path / "my_answers.py"))
    manager = KernelManager(config=QUIET)
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    code = f"from itr_lib.checks import check\n{inspect.getsource(recall_at_k)}\ncheck('recall-at-k', recall_at_k);"
    seen = {}
    try:
        for takes_input in (True, False):
            messages = []
            client.execute_interactive(code, allow_stdin=takes_input, output_hook=messages.append, timeout=120)
            seen[takes_input] = {m["msg_type"]: m["content"] for m in messages}
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert "✓" in seen[True]["display_data"]["data"]["text/html"] and "stream" not in seen[True]
    assert "checks in this notebook passed" in seen[False]["stream"]["text"] and "display_data" not in seen[False]
    assert marks(tmp_path) == [("recall-at-k", "passed")]


def test_a_catalogue_that_is_not_the_sources_is_found_and_written(tmp_path):
    toy_course.write(tmp_path)
    build(tmp_path)
    assert differences(tmp_path) == []  # lessons without the library have none
    (tmp_path / "itr_lib" / "desk").mkdir(parents=True)
    assert differences(tmp_path) == ["itr_lib/desk/catalogue.json differs from solutions/*.py: run `make build`"]
    (path,) = build(tmp_path)
    (plan,) = json.loads(path.read_text())
    assert [help_[0] for help_ in plan["tasks"][0]["helps"]] == ["First help", "Second help"]
    assert (plan["title"], plan["tasks"][0]["points"]) == ("A small lesson", 3) and differences(tmp_path) == []


def test_the_command_prints_the_table(desk, capsys):
    write(desk, ("mrsw", "passed"))
    assert main(["progress"]) == 0
    assert capsys.readouterr().out.rstrip().endswith(f"in {desk}/02_fine_grained_alignment.ipynb")
