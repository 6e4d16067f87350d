"""Two processes on half of each batch train as one does on all of it, go on where they stopped, and wait for no dead.

What is compared: norms of gradients, losses, and all that a model holds after ten steps, queues included, in float64,
where sums in another order differ by some 1e-15 of their terms. AdamW divides a gradient by its own size, at least by
1e-8, so that the rounding of one that is 0 becomes up to 1e-7 of a step; steps are 1e-3. Hence the tolerance of 1e-9.
In float32 the rounding of such gradients becomes whole steps, and nothing could be told from it.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from toy import toy_data, toy_network, toy_pictures

from itr_lib import inference, parallel, training, training_view
from itr_lib.data import train_tokenizer
from itr_lib.data.dataset import RetrievalData
from itr_lib.encoders.backbone import Backbone, BackboneConfig
from itr_lib.encoders.text import TextConfig
from itr_lib.models import build, user
from itr_lib.objectives import InfoNCEObjective, TripletObjective, TwoLevelObjective, UnifiedObjective
from itr_lib.parallel import gather_rows, rank, together, world
from itr_lib.training import TrainConfig, train

TOLERANCE = 1e-9


def ragged(images: int, split: str, fourth: int = 1) -> RetrievalData:
    """Regions and words in different numbers, and an image with a fourth caption: the last batch holds one pair."""
    data = toy_data(images, split=split)
    mask = np.random.default_rng(0).random(data.region_mask.shape) < 0.3
    mask[:, 0] = True
    captions = tuple(" ".join(text.split()[: 1 + row % 4]) for row, text in enumerate(data.captions))
    return dataclasses.replace(
        data,
        features=np.where(mask[..., None], data.features, 0),
        region_mask=mask,
        captions=(*captions, *["w1 w2"] * fourth),
        image_of_caption=np.append(data.image_of_caption, np.zeros(fourth, int)),
    )


TRAIN, VAL = ragged(41, "train"), ragged(12, "val")
# Without the batch of one pair, which both processes normalise: batch statistics count it twice.
TRAIN_FOR_SGE = ragged(41, "train", fourth=0)
TOKENIZER = train_tokenizer(TRAIN.captions)
CONFIG = TrainConfig(epochs=1, batch_size=14, warmup_steps=2)
CASES = {
    "vse": (InfoNCEObjective(temperature=None), {"learnt_temperature": True, "dropout": 0.0}),
    "teran": (TripletObjective(warmup_epochs=0), {"dropout": 0.0}),
    "chan": (TripletObjective(warmup_epochs=0), {"dropout": 0.0, "drop_regions": 0.0, "corrupt_words": 0.0}),
    "user": (UnifiedObjective(), {"guide": "none", "queue_size": 30}),
    "user, sge": (UnifiedObjective(), {"guide_dropout": 0.0, "queue_size": 30}),
    "tgdt": (TwoLevelObjective(), {"dropout": 0.0}),
    "vse, pictures": (InfoNCEObjective(), {"dropout": 0.0}),
}


def new_model(name: str, text_dropout: float = 0.0, **settings):
    torch.manual_seed(0)
    text = TextConfig(len(TOKENIZER), hidden=16, layers=1, dropout=text_dropout, mask_token=TOKENIZER.mask_token_id)
    return build(name.split(",")[0], feature_dim=16, text=text, dim=16, **settings)


# --- what the processes do --------------------------------------------------------------------------------------------


def doubled(value):
    """Floats of a batch as float64; of a function, its result."""
    if callable(value):
        return lambda *arguments: doubled(value(*arguments))
    if isinstance(value, tuple):
        return value._make(map(doubled, value))
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def fit(case: str, folder: Path) -> dict[str, torch.Tensor]:
    """All that is compared, of one training in float64; ``folder`` holds an image network."""
    objective, settings = CASES[case]
    model, norms, parts = new_model(case, **settings), [], (TRAIN_FOR_SGE if case == "user, sge" else TRAIN, VAL)
    if case == "vse, pictures":
        model.backbone = Backbone(BackboneConfig(folder, grid=2))
        parts = [model.backbone.pictures(toy_pictures(part)) for part in parts]
    model = model.double()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training, "pair_batch", doubled(training.pair_batch))
        patched.setattr(inference, "image_batch", doubled(inference.image_batch))
        clip = training.clip_grad_norm_
        patched.setattr(training, "clip_grad_norm_", lambda *both: norms.append(clip(*both)) or norms[-1])
        history = train(model, objective, TOKENIZER, *parts, CONFIG, progress=False)
    loss = torch.tensor(history.epochs[0]["loss"], dtype=torch.double)
    return {"loss": loss, "norms": torch.stack(norms), **model.state_dict()}


def gather_with_own_gradient_alone(mine):
    """The rows of others as constants, the commonest mistake."""
    whole = gather_rows(mine.detach())
    start = 0 if rank() == 0 else len(whole) - len(mine)
    whole[start : start + len(mine), : mine.shape[1]] = mine
    return whole


def average_divided_twice(model):
    parallel.average_gradients(model)
    for weight in model.parameters():
        if weight.grad is not None:
            weight.grad /= world()


def in_training_mode(backbone, batch):
    for part in backbone.modules():
        part.training = True
    return LOOK(backbone, batch)


LOOK = Backbone.forward


def normed_alone(norm, rows):
    own = norm.training and len(rows) > 1
    return F.batch_norm(rows, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=own, eps=norm.eps)


WRONG = {  # the case that shows it, and what is patched
    "gradient of own rows alone": ("teran", training_view, "gather_rows", gather_with_own_gradient_alone),
    "divided once too much": ("teran", training, "average_gradients", average_divided_twice),
    "gradients not averaged": ("vse", training, "average_gradients", lambda model: None),
    "each normalises its own regions": ("user, sge", user, "_normed", normed_alone),
    "each normalises its own pictures": ("vse, pictures", Backbone, "forward", in_training_mode),
}


class Stop(Exception):
    """What ends a run in its second epoch."""


def stopping(model, batch, epoch):
    if epoch == stopping.at:
        raise Stop
    return UnifiedObjective()(model, batch, epoch)


stopping.at = None


def fit_in_two_goes(folder: Path, stop: bool) -> dict[str, torch.Tensor]:
    """Two epochs with dropout in float32, with queues; stopped in the second and begun again, or not."""
    config = dataclasses.replace(CONFIG, epochs=2)
    stopping.at = 1 if stop else None
    if stop:
        with pytest.raises(Stop):
            model = new_model("user", 0.2, queue_size=30)
            train(model, stopping, TOKENIZER, TRAIN, VAL, config, progress=False, folder=folder)
    stopping.at = None
    model = new_model("user", 0.2, queue_size=30)
    train(model, stopping, TOKENIZER, TRAIN, VAL, config, progress=False, folder=folder)
    return model.state_dict()


def ragged_rows() -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of this process, ``rank + 2`` of them ``rank + 1`` wide, gathered; and the gradient that they get."""
    mine = torch.full((rank() + 2, rank() + 1, 2), 1.0 + rank(), requires_grad=True)
    whole = gather_rows(mine)
    (whole * torch.arange(whole.numel()).view_as(whole) * (1 + rank())).sum().backward()
    return whole.detach(), mine.grad


def join(number: int, port: int) -> None:
    """What a launcher tells its processes."""
    os.environ |= {"RANK": str(number), "WORLD_SIZE": "2", "LOCAL_RANK": str(number)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def alone(folder: Path) -> None:
    torch.save({case: fit(case, folder) for case in CASES}, folder / "alone.pt")


def one_of_two(folder: Path, number: int, port: int) -> None:
    join(number, port)
    with together("cpu"):
        found = {case: fit(case, folder) for case in CASES}
        found["rows"] = ragged_rows()
        found["flags"] = gather_rows(torch.tensor([number == 1]))
        for name, (case, module, function, wrong) in WRONG.items():
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(module, function, wrong)
                found[name] = fit(case, folder)
        found["calm"] = fit_in_two_goes(folder / "calm", stop=False)
        found["stopped"] = fit_in_two_goes(folder / "stopped", stop=True)
    torch.save(found, folder / f"{number}.pt")


def one_of_two_that_dies(folder: Path, number: int, port: int) -> None:
    join(number, port)

    def objective(model, batch, epoch):
        if number == 1 and epoch == 1:
            os._exit(0)
        return TripletObjective()(model, batch, epoch)

    config = dataclasses.replace(CONFIG, epochs=2)
    train(new_model("vse"), objective, TOKENIZER, TRAIN, VAL, config, progress=False)


def start(jobs: list[tuple]) -> list[multiprocessing.Process]:
    """A process for each (function, arguments ...), with what they need imported once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["itr_lib.training", "itr_lib.models", "test_parallel"])
    processes = [context.Process(target=function, args=arguments) for function, *arguments in jobs]
    for process in processes:
        process.start()
    return processes


def end(processes: list[multiprocessing.Process], seconds: float = 300) -> list[int | None]:
    """Their exit codes; None for one that does not end."""
    for process in processes:
        process.join(seconds)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


# --- what came of it --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, dict]:
    """What a process alone found, and each of two."""
    folder, port = tmp_path_factory.mktemp("processes"), free_port()
    toy_network(folder)  # here: of several processes that know each other transformers lets the first one write
    jobs = [(alone, folder), *((one_of_two, folder, number, port) for number in (0, 1))]
    assert end(start(jobs)) == [0, 0, 0]
    return {name: torch.load(folder / f"{name}.pt", weights_only=True) for name in ("alone", "0", "1")}


def furthest(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """The largest difference, for what is larger than 1 as a share of it."""
    assert first.keys() == second.keys()
    return max(((first[name] - second[name]).abs() / first[name].abs().clamp(min=1)).max().item() for name in first)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one(found, case):
    assert len(found["alone"][case]["norms"]) == (9 if case == "user, sge" else 10)
    assert furthest(found["alone"][case], found["0"][case]) < TOLERANCE
    assert all(torch.equal(value, found["1"][case][name]) for name, value in found["0"][case].items())


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_told_from_it(found, name):
    assert furthest(found["alone"][WRONG[name][0]], found["0"][name]) > 1e-3


def test_ragged_rows_are_padded_and_get_what_every_process_wants_of_them(found):
    whole = torch.zeros(5, 2, 2)
    whole[:2, :1], whole[2:] = 1, 2
    wanted = 3 * torch.arange(20.0).view(5, 2, 2)  # once of the first, twice of the second
    for number, gradient in (("0", wanted[:2, :1]), ("1", wanted[2:])):
        assert torch.equal(found[number]["rows"][0], whole) and torch.equal(found[number]["rows"][1], gradient)
        assert found[number]["flags"].tolist() == [False, True]


def test_stopped_and_begun_again_two_processes_end_with_the_same_weights(found):
    for number in ("0", "1"):
        for name, value in found[number]["calm"].items():
            assert torch.equal(value, found[number]["stopped"][name]), name


def test_a_process_that_dies_ends_the_other(tmp_path):
    port = free_port()
    codes = end(start([(one_of_two_that_dies, tmp_path, number, port) for number in (0, 1)]), seconds=120)
    assert codes == [1, 0]  # the one that lived on raised an error
