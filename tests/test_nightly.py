"""A night: seeds that are done are not run again, bands are written anew, the report says what has moved."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from toy_course import HEAD, TAIL, write

from data_scripts import drift, nightly
from data_scripts.drift import Drift, drift_table, drifts, last_release
from itr_lib.course import build as builder
from itr_lib.course.bands import Band, load_bands
from itr_lib.course.build import build
from itr_lib.course.run import Result

COMMAND = ["--profile", "smoke", "--seeds", "0", "1", "2"]


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two lessons; the first one's bands hold 39 to 43. nbval has nothing to say."""
    for name in ("00_small", "01_next"):
        write(tmp_path, HEAD + TAIL.replace("00_small", name).replace('"r1": 40.0', '"r1": 40.0 + seed'), name)
    build(tmp_path)
    monkeypatch.setattr(builder, "REPO", tmp_path)
    monkeypatch.setattr(nightly, "changed_outputs", lambda path, folder: [])
    expect(tmp_path, {"00_small": {"r1": band(39, 43)}, "01_next": {"r1": band(39, 43)}})
    return tmp_path


def band(low: float, high: float) -> dict:
    return {"low": low, "high": high, "seeds": 3}


def expect(repo: Path, bands: dict) -> None:
    (repo / "tests" / "expected").mkdir(parents=True, exist_ok=True)
    (repo / "tests" / "expected" / "smoke.json").write_text(json.dumps({"scenes": bands}))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds that were run; in place of lessons, a metric of 40 plus the seed."""
    seeds = []

    def run(options, repo, out):
        seeds.append(options.seed)
        results = [Result(lesson, "", metrics={"r1": 40.0 + options.seed}) for lesson in options.lessons]
        leave(out, results)

    monkeypatch.setattr(nightly, "run", run)
    return seeds


def leave(out: Path, results: list[Result]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "summary.json").write_text(json.dumps({"results": [vars(result) for result in results]}))


def report(repo: Path) -> str:
    return (repo / "runs" / "nightly" / "smoke" / "report.md").read_text()


def test_a_night_of_real_lessons(repo: Path, capsys) -> None:
    """Two kernels. The metric is 40 plus the seed, the other one has no band."""
    status = nightly.main(["--profile", "smoke", "--lessons", "00", "--seeds", "0", "2", "--device", "cpu"])
    assert status == 3, capsys.readouterr().out
    assert load_bands(repo / "tests" / "expected" / "smoke.json", "scenes")["00_small"]["r1"] == Band(38, 44, 2)
    assert re.search(
        r"00_small \| r1 +\| in band +\| – +\| 41 \(40 to 42\) +\| – +\| 39 to 43",
        capsys.readouterr().out + report(repo),
    )


def test_bands_are_written_and_shown_old_and_new(repo: Path, runs: list[int], capsys) -> None:
    assert nightly.main(COMMAND) == 0 and runs == [0, 1, 2]
    assert load_bands(repo / "tests" / "expected" / "smoke.json", "scenes")["01_next"]["r1"] == Band(38, 44, 3)
    shown = capsys.readouterr().out
    assert re.search(r"00_small \| r1 +\| 39 to 43 \(3 seeds\) +\| 38 to 44 \(3 seeds\)", shown)
    assert "2 in band" in shown and "OUT" not in shown
    page = (repo / "runs" / "nightly" / "smoke" / "report.html").read_text()
    assert page.count("<table>") == 2 and "http" not in page.replace("http://www.w3.org", "")
    assert nightly.main(COMMAND) == 0 and runs == [0, 1, 2] * 2, "a night that is whole is followed by another"
    assert "As before." in report(repo)


def test_the_move_since_the_last_release_is_shown_the_largest_first(repo: Path, runs: list[int]) -> None:
    released = repo / drift.RELEASED / "0.2.0.json"
    released.parent.mkdir()
    then = {"00_small": {"r1": [40.0, 42.0]}, "01_next": {"r1": [35.0]}}
    released.write_text(json.dumps({"profiles": {"smoke": then}}))
    assert nightly.main(COMMAND) == 0
    shown = report(repo)
    assert "## Drift since 0.2.0" in shown
    assert re.findall(r"\| (\w+) +\| r1 +\| in band +\| (\S+) ", shown) == [("01_next", "+1.50"), ("00_small", "+0.00")]


def test_widened_bands_hold_what_they_held(repo: Path, runs: list[int]) -> None:
    expect(repo, {"00_small": {"r1": band(0, 43)}, "01_next": {"r1": band(0, 43)}})
    assert nightly.main([*COMMAND, "--widen"]) == 0
    assert load_bands(repo / "tests" / "expected" / "smoke.json", "scenes")["00_small"]["r1"] == Band(0, 44, 3)


def test_a_night_goes_on_where_it_was_interrupted(repo: Path, runs: list[int], monkeypatch) -> None:
    whole = nightly.run

    def killed(options, repo, out):
        if options.seed == 1:
            leave(out, [Result("00_small", "", metrics={"r1": 7.0})])  # the second lesson never came
            raise KeyboardInterrupt
        whole(options, repo, out)

    monkeypatch.setattr(nightly, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        nightly.main(COMMAND)
    monkeypatch.setattr(nightly, "run", whole)
    assert nightly.main(COMMAND) == 0 and runs == [0, 1, 2]
    assert nightly.read_state(repo / "runs" / "nightly" / "smoke")["values"]["00_small"] == {"r1": [40, 41, 42]}


@pytest.mark.parametrize("change", ["code", "lessons"])
def test_seeds_of_other_code_or_lessons_are_run_again(repo: Path, runs: list[int], monkeypatch, change: str) -> None:
    monkeypatch.setattr(nightly, "changed_outputs", lambda path, folder: ["01_next.ipynb: Cell 3: another"])
    assert nightly.main(COMMAND) == 1 and "Cell 3: another" in report(repo)
    assert nightly.main(COMMAND) == 1 and runs == [0, 1, 2], "its numbers are whole, its outputs are compared again"
    if change == "code":
        write(repo, HEAD + TAIL + "\n# %%\nprint()\n")
        build(repo)
    nightly.main([*COMMAND, "--lessons", "00"] if change == "lessons" else COMMAND)
    assert runs == [0, 1, 2] * 2


def test_a_metric_out_of_its_band_ends_in_1(repo: Path, runs: list[int]) -> None:
    expect(repo, {"00_small": {"r1": band(39, 41.5)}, "01_next": {"r1": band(39, 43)}})
    assert nightly.main(COMMAND) == 1
    assert "1 in band, 1 OUT OF BAND" in report(repo)


def test_a_metric_that_is_gone_ends_in_1_and_one_without_a_band_in_3(repo: Path, runs: list[int]) -> None:
    expect(repo, {"00_small": {"r1": band(39, 43), "old": band(0, 1)}, "01_next": {"r1": band(39, 43)}})
    assert nightly.main(COMMAND) == 1 and "1 gone" in report(repo)
    expect(repo, {"00_small": {"r1": band(39, 43)}})
    assert nightly.main(COMMAND) == 3 and "1 no band" in report(repo)


def test_a_lesson_that_fails_keeps_its_bands_and_is_run_again(repo: Path, runs: list[int], monkeypatch) -> None:
    whole = nightly.run

    def failing(options, repo, out):
        whole(options, repo, out)
        leave(
            out,
            [Result("00_small", "", "failed", problems=["cell 3 failed"]), Result("01_next", "", metrics={"r1": 1})],
        )

    monkeypatch.setattr(nightly, "run", lambda o, r, out: (failing if o.seed == 2 else whole)(o, r, out))
    assert nightly.main(COMMAND) == 1
    bands = load_bands(repo / "tests" / "expected" / "smoke.json", "scenes")
    assert bands["00_small"]["r1"] == Band(39, 43, 3) and bands["01_next"]["r1"].low < 1
    assert "00_small failed, its bands stay:\nseed 2: cell 3 failed" in report(repo)
    monkeypatch.setattr(nightly, "run", whole)
    nightly.main(COMMAND)
    assert runs == [0, 1, 2, 2]


def test_what_was_asked_for_and_is_not_there_gets_a_sentence(repo: Path, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        nightly.main(["--lessons", "09"])
    assert ended.value.code == 2 and "there is no lesson '09'" in capsys.readouterr().err


# --- drift


def test_a_move_is_counted_in_widths_of_the_band() -> None:
    held = Band(40, 48, 3)
    assert Drift("00", "r1", [43, 45], [40, 44], held).move == pytest.approx((44 - 42) / 8)
    assert Drift("00", "r1", [40], [44], held).move == pytest.approx(-0.5)
    assert Drift("00", "r1", [0.0], [0.0], Band(0, 0, 3)).move == 0
    assert Drift("00", "r1", [-1.0], [0.0], Band(0, 0, 3)).move == -float("inf")
    assert Drift("00", "r1", [], [44], held).move == float("inf")
    assert Drift("00", "r1", [40], [], held).move is None and Drift("00", "r1", [40], [44], None).move is None


def test_one_seed_out_of_the_band_is_out() -> None:
    held = Band(40, 48, 3)
    assert Drift("00", "r1", [40, 48], [], held).standing == "in band"
    assert Drift("00", "r1", [41, 48.1], [], held).standing == "OUT OF BAND"
    assert Drift("00", "r1", [39.9, 44], [], held).standing == "OUT OF BAND"


def test_the_largest_move_comes_first_and_what_is_new_last() -> None:
    now = {"00": {"near": [1.1], "far": [-4.0], "new": [5.0]}, "01": {"still": [2.0]}}
    then = {"00": {"near": [1.0], "far": [1.0], "lost": [1.0]}, "01": {"still": [2.0]}, "02": {"other": [1.0]}}
    bands = {lesson: dict.fromkeys(metrics, Band(0, 2, 3)) for lesson, metrics in now.items()}
    found = drifts(now, then, bands)
    assert [one.metric for one in found] == ["lost", "far", "near", "still", "new"]
    rows = [row[2:] for row in drift_table(found)[1:3]]
    assert rows == [["gone", "+inf", "–", "1", "–"], ["OUT OF BAND", "-2.50", "-4", "1", "0 to 2"]]


def test_the_newest_release_that_has_the_profile_counts(tmp_path: Path) -> None:
    assert last_release(tmp_path, "smoke") == ("", {})
    folder = tmp_path / drift.RELEASED
    folder.mkdir(parents=True)
    values = {"00": {"r1": [40.0]}}
    for version, profiles in {"0.9.0": {"quick": values}, "0.10.0": {"quick": values, "smoke": values}}.items():
        (folder / f"{version}.json").write_text(json.dumps({"profiles": profiles}))
    (folder / "0.11.0.json").write_text(json.dumps({"profiles": {"quick": {}}}))
    assert last_release(tmp_path, "smoke") == ("0.10.0", values) and last_release(tmp_path, "quick") == ("0.11.0", {})
    (folder / "0.12.0.json").write_text("[]")
    with pytest.raises(ValueError, match=r"0\.12\.0\.json is not as a release writes it"):
        last_release(tmp_path, "smoke")
    (folder / "newest.json").write_text("{}")
    with pytest.raises(ValueError, match=r"expected a name like 0\.2\.0\.json"):
        last_release(tmp_path, "smoke")
