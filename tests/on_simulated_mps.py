"""The course on a simulated Mac's GPU, which refuses float64, in a process of its own; test_simulated_mps.py judges.

python tests/on_simulated_mps.py                                    # each model's life there; prints JSON
python tests/on_simulated_mps.py solutions/00_retrieval_basics.py   # a lesson's cells, profile smoke; prints JSON
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import simulated_gpu
import torch
from lesson_on_simulated_gpu import run
from on_simulated_gpu import DATA, MODELS, TOKENIZER

from itr_lib import evaluation, inference
from itr_lib.encoders.text import TextConfig
from itr_lib.models import build
from itr_lib.search import TwoStageIndex
from itr_lib.training import TrainConfig, train


def life(name: str) -> dict[str, float]:
    """Trained for an epoch there, with a checkpoint, and measured; ``apart``: how far its scores are from the CPU's."""
    kind, settings, objective = MODELS[name]
    text = TextConfig(len(TOKENIZER), hidden=32, layers=1, mask_token=TOKENIZER.mask_token_id)
    config = TrainConfig(1, 30, drop_regions=0.2, warmup_steps=1)
    with TemporaryDirectory() as folder:
        for _ in range(2):  # the second finds the first one's checkpoint
            torch.manual_seed(0)
            model = build(kind, feature_dim=16, text=text, dim=32, **settings)
            train(model, objective, TOKENIZER, DATA, DATA, config, device="mps", folder=folder, progress=False)
    measured = inference.evaluate(model, TOKENIZER, DATA, device="mps") | measured_there(model)
    there = inference.score(model, TOKENIZER, DATA, device="mps")
    here = inference.score(model.to("cpu"), TOKENIZER, DATA)
    return measured | {"apart": float((there - here).abs().max())}


def measured_there(model: torch.nn.Module) -> dict[str, float]:
    """Metrics of scores that were left on the device, and how many answers an index of what lay there gives."""
    images, captions = inference.encode(model, TOKENIZER, DATA, device="mps")
    scores = model.scores(images, captions).detach()
    index = TwoStageIndex.for_model(model, "images")
    index.add(list(DATA.image_ids), images)
    return {
        "ndcg": evaluation.ndcg(scores, torch.eye(len(scores))),
        **evaluation.pair_accuracy(scores),
        **evaluation.structure_agreement(scores, scores),
        "found": len(index.query(inference.rows_of(captions, torch.tensor([0])), top=3).ids[0]),
    }


if __name__ == "__main__":
    simulated_gpu.install("mps")
    if len(sys.argv) > 1:
        print(json.dumps(run(Path(sys.argv[1]), "mps")))
    else:
        print(json.dumps({name: life(name) for name in MODELS}))
