"""The leaderboard: what is shown of a run, what a query returns against brute force, and the published figures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from toy import toy_data

from data_scripts import leaderboard
from itr_lib.data import train_tokenizer
from itr_lib.encoders.text import TextConfig
from itr_lib.figures.scores import tradeoff
from itr_lib.inference import encode, readings_of, rows_of
from itr_lib.lessons.leaderboard import (
    board_path,
    cost_table,
    load_board,
    published_table,
    quality_table,
    query_costs,
)
from itr_lib.models import TwoNetworks, build

DATA = toy_data(images=70, split="test")
TOKENIZER = train_tokenizer(DATA.captions)
KINDS = {
    "VSE": ("vse",),
    "USER": ("user",),
    "TERAN": ("teran",),
    "CHAN": ("chan",),
    f"VSE, then TERAN (K = {leaderboard.SHORTLIST})": ("vse", "teran"),
}
BOARD = {
    "systems": [
        {
            "name": "one",
            "runs": [{"rsum": 100.0, "ndcg_graph": 0.5}, {"rsum": 103.0, "ndcg_graph": 0.7}],
            "parameters": 12345,
            "train_seconds": [10.0, 14.0],
            "encode_ms": 1.394,
            "ms_per_query": 0.126,
            "bytes_per_image": 4096.0,
        }
    ],
    "chance": {"rsum": 3.0},
    "ceiling": {"rsum": 588.6, "ndcg_graph": 1.0},
}


def test_tables_show_mean_and_range_and_leave_out_what_is_not_known():
    quality, cost = quality_table(BOARD), cost_table(BOARD)
    assert list(quality.index) == ["chance", "one", "ceiling"]
    assert quality.loc["one", "rSum"] == "101.5 (100.0–103.0)" and quality.loc["chance", "NDCG@25"] == "–"
    assert quality.loc["one", "NDCG@25"] == "0.600 (0.500–0.700)" and quality.loc["one", "pointing"] == "–"
    assert list(cost.loc["one"]) == ["12,345", "12", "1.39", "0.13", "4,096"]


def test_of_each_system_its_time_and_its_mean_recall():
    assert query_costs(
        {"systems": [{"name": "x", "ms_per_query": 0.5, "runs": [{"t2i_r1": 1.0}, {"t2i_r1": 4.0}]}]}
    ) == {"x": (0.5, 2.5)}


def test_a_data_set_without_a_board_has_none():
    assert load_board("coco") is None and board_path("coco").name == "leaderboard-coco.json"


def test_published_figures_come_with_a_source_and_fall_from_r1_to_r10():
    table = published_table()
    assert table["source"].str.len().min() > 10 and set(table.loc["TGDT"][:-1]) == {"–"}
    for value in table.drop(columns="source").to_numpy().ravel():
        known = [float(part) for part in value.split() if part != "–"]
        assert known == sorted(known) and all(0 < part <= 100 for part in known)
    assert table.loc["TERAN (BERT)", "COCO 5K t2i"] == "42.6 72.5 82.9"


@pytest.mark.parametrize("name", leaderboard.SYSTEMS)
@torch.no_grad()
def test_every_system_answers_as_brute_force_does(name, monkeypatch):
    monkeypatch.setattr(leaderboard, "SHORTLIST", 20)
    torch.manual_seed(0)
    kinds = KINDS.get(name, ("tgdt",))
    text = TextConfig(len(TOKENIZER), hidden=32, layers=1, mask_token=TOKENIZER.mask_token_id)
    networks = [build(kind, feature_dim=16, text=text, dim=32) for kind in kinds]
    model = (networks[0] if len(networks) == 1 else TwoNetworks(*networks)).eval()
    ask, kept = leaderboard.search(model, name, DATA, TOKENIZER)
    images, captions = encode(model, TOKENIZER, DATA)
    scores = readings_of(model, images, captions)[""].T
    whole_and_tokens = "TGDT" in name or len(networks) == 2
    if whole_and_tokens:
        first = model.global_scores(images, captions).T
        shortlist = {"TGDT, global reading": 0, "TGDT, both readings": len(DATA)}.get(name, 20)
        ranks = first.argsort(dim=1, descending=True).argsort(dim=1)
        scores = torch.where(ranks < shortlist, scores + 100, first)
    for row in range(0, len(DATA.captions), 40):
        found = ask(rows_of(captions, torch.tensor([row])))
        assert found.rows[0].tolist() == scores[row].topk(10).indices.tolist()
    whole, tokens = 4 * 32, 4 * 32 * DATA.region_mask.sum(axis=1).mean()
    if name in ("VSE", "USER", "TGDT, global reading"):
        assert kept == whole
    else:
        assert kept == pytest.approx(tokens + 8 + whole * whole_and_tokens)


def test_what_the_board_shows_of_a_run():
    run = {
        f"{before}{name}": value for value, before in enumerate(("", "global_", "k50_")) for name in ("rsum", "swaps")
    }
    run["pointing_all"] = 70.0
    assert leaderboard.on_board(run, "") == {"rsum": 0, "swaps": 0, "pointing": 70.0}
    assert leaderboard.on_board(run, "global_") == {"rsum": 1, "swaps": 1}
    assert leaderboard.on_board(run, "k50_") == {"rsum": 2, "swaps": 0, "pointing": 70.0}


def test_references_without_a_truth_are_chance_alone():
    class Splits:
        test, probes = dataclasses.replace(DATA, truth=None), {}

    found = leaderboard.references(Splits, TOKENIZER)
    assert found["ceiling"] == {} and found["chance"]["t2i_r10"] == pytest.approx(1000 / 70)


def test_the_front_is_a_line_through_points_that_are_there_and_through_no_label():
    points = {"a": (1.0, 10.0), "a long name beside b": (0.1, 9.9), "c": (2.0, 7.0)}
    figure = tradeoff(points, front=["a", "a long name beside b"])
    axis = figure.axes[0]
    line = axis.lines[-1].get_xydata()
    assert np.allclose(line, [(0.1, 9.9), (1.0, 10.0)])
    figure.canvas.draw()
    along = np.linspace(*axis.transData.transform(line), 100)
    for label in axis.texts:
        assert not any(Text.get_window_extent(label).contains(*place) for place in along), label
    with pytest.raises(ValueError, match=r"front names \['d'\]"):
        tradeoff(points, front=["d"])
