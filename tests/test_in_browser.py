"""A learner at lesson 02 in JupyterLab, in headless Chromium: all unsolved, once wrong, then right, a word, progress.

It needs Playwright for Python and a Chromium, which are in no list of requirements: without them it is skipped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
LESSON = "02_fine_grained_alignment.ipynb"
LONG = 600_000  # milliseconds: a busy machine may take so long
WRONG = "def mrsw(alignments, region_mask, word_mask):\n    return alignments.amax(2).sum(2)\n"
RIGHT = (
    "def mrsw(alignments, region_mask, word_mask):\n"
    "    best = alignments.masked_fill(~region_mask[:, None, :, None], -torch.inf).amax(2)\n"
    "    return best.masked_fill(~word_mask[None], 0).sum(2)\n"
)
# A learner uses the menu and the keyboard; the page's own commands do the same here, without a guess at its layout.
INDEX = "id => app.shell.currentWidget.content.widgets.findIndex(cell => cell.model.id === id)"
GO = f"""async id => {{
    const place = ({INDEX})(id), content = app.shell.currentWidget.content;
    content.activeCellIndex = place;
    await content.scrollToItem(place, 'center');
    return place;
}}"""


def chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


@pytest.fixture
def address(tmp_path, monkeypatch):
    """A JupyterLab with a copy of the lesson, settings of its own, and the profile smoke."""
    (tmp_path / "notebooks").mkdir()
    shutil.copy(REPO / "notebooks" / LESSON, tmp_path / "notebooks" / LESSON)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {name: str(tmp_path / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    settings = {"JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "set"), "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "work")}
    environment = os.environ | own | settings | {"ITR_PROFILE": "smoke", "PYTHONPATH": str(REPO)}
    options = ["--no-browser", "--allow-root", f"--port={port}", "--IdentityProvider.token=", "--expose-app-in-browser"]
    command = [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={tmp_path / 'notebooks'}"]
    with open(tmp_path / "lab.log", "w") as log:
        lab = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            yield _answers(f"http://127.0.0.1:{port}")
        finally:
            lab.terminate()
            lab.wait(30)


def _answers(address: str) -> str:
    for _ in range(120):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/api/status", timeout=5):
            return address
        time.sleep(1)
    raise AssertionError("JupyterLab did not start")


@pytest.fixture
def page():
    """A page of a browser; its ``errors`` are what came to the console."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    path = chromium()
    if path is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        found = browser.new_page(viewport={"width": 1300, "height": 900})
        found.set_default_timeout(LONG)
        found.errors = []
        found.on("console", lambda message: message.type == "error" and found.errors.append(message.text))
        found.on("pageerror", lambda error: found.errors.append(str(error)))
        yield found
        browser.close()


class Desk:
    """The lesson, open in JupyterLab."""

    def __init__(self, page, address):
        self.page = page
        page.goto(f"{address}/lab/tree/{LESSON}?reset")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.evaluate("() => { window.app = window.jupyterapp }")
        page.wait_for_function("() => app.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")

    def command(self, name, **arguments):
        """Run one of JupyterLab's commands, and do not wait for its end."""
        self.page.evaluate("([name, given]) => { app.commands.execute(name, given) }", [name, arguments])

    def theme(self, name):
        self.command("apputils:change-theme", theme=name)
        self.page.wait_for_selector(f"body[data-jp-theme-name='{name}']", state="attached")

    def cell(self, slug):
        """A cell by its id, brought into view."""
        place = self.page.evaluate(GO, slug)
        return self.page.locator(f".jp-Cell[data-windowed-list-index='{place}']")

    def write(self, slug, text):
        """Put a text into a cell and run it, and the check below it, by keyboard."""
        self.cell(f"{slug}-solution").locator(".cm-content").click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(text)
        self.page.keyboard.press("Shift+Enter")
        self.page.evaluate(GO, f"{slug}-check")
        self.page.keyboard.press("Shift+Enter")


@pytest.mark.slow
def test_a_learner_solves_an_exercise(page, address, tmp_path, monkeypatch):
    """Slow: JupyterLab, a browser, and the whole lesson in the profile smoke. Screenshots are in the test's folder."""
    monkeypatch.setenv("ITR_ANSWERS", str(tmp_path / "notebooks" / "my_answers.py"))
    from itr_lib.desk import kept
    from itr_lib.desk.standing import standing, table

    before = table(standing(kept.path()), "notebooks")
    desk = Desk(page, address)
    page.errors.clear()  # those of JupyterLab's own start
    desk.command("notebook:run-all-cells")
    last = desk.cell("cell-075")
    last.locator("div[role=group]").wait_for()
    assert "the end of lesson 02: 0 of 7 exercises solved" in last.inner_text()
    opening = desk.cell("cell-003").locator("div[role=group]")
    assert (
        "lesson 02: 0 of 7 exercises solved" in opening.text_content() and "next: alignments" in opening.text_content()
    )
    for slug in ("alignments", "poolings"):
        assert "not attempted yet" in desk.cell(f"{slug}-check").locator("div[role=group]").text_content()

    desk.write("mrsw", WRONG)
    wrong = desk.cell("mrsw-check").locator("div[role=group]", has_text="not right yet")
    wrong.wait_for()
    assert "mrsw: not right yet" in wrong.inner_text() and 'mrsw = library("mrsw")' in wrong.inner_text()
    summary = wrong.locator("summary")
    summary.focus()
    page.keyboard.press("Enter")
    assert wrong.locator("details[open]").count() == 1 and "Two steps" in wrong.inner_text()
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        desk.theme(theme)
        page.wait_for_timeout(1000)
        page.screenshot(path=tmp_path / f"wrong-{theme[11:]}.png")
    assert "1 of 7" not in table(standing(kept.path()), "notebooks")

    desk.write("mrsw", RIGHT)
    right = desk.cell("mrsw-check").locator("div[role=group]", has_text="passed")
    right.wait_for()
    assert "lesson 02: 1 of 7 exercises solved" in right.inner_text() and "goes on with yours" in right.inner_text()
    page.screenshot(path=tmp_path / "right-Dark.png")
    desk.theme("JupyterLab Light")
    page.wait_for_timeout(1000)
    page.screenshot(path=tmp_path / "right-Light.png")
    after = table(standing(kept.path()), "notebooks")
    assert after != before and "1 of 7" in after

    explorer = desk.cell("cell-052")
    words = explorer.locator(".itr-words label")
    words.first.wait_for()
    looks = []
    for word in (words.nth(1), words.nth(2)):
        word.hover()
        looks.append(word.locator(".itr-look i").inner_text())
    assert looks[0] != looks[1] and all("alignment" in text for text in looks)
    page.screenshot(path=tmp_path / "explorer.png")
    assert page.errors == []
