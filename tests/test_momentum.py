"""Key encoders against the formula in plain loops, queues against a deque, and known wrong queues."""

from __future__ import annotations

from collections import deque
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from itr_lib.momentum import NO_ID, FeatureQueue, key_encoder, momentum_update, to_device


def network(seed: int = 0) -> nn.Module:
    """Weights, a batch norm that has seen data, and a dropout, which has neither."""
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)).double()
    for _ in range(seed + 1):
        made(torch.randn(5, 3, dtype=torch.float64))
    return made


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# --- key encoders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.5, 0.9, 0.999, 1.0])
def test_the_formula_in_plain_loops(momentum):
    target, source = network(0), network(1)
    before = state(target)
    momentum_update(target, source, momentum)
    for name, leader in source.named_parameters():
        old, new = before[name].flatten().tolist(), dict(target.named_parameters())[name].flatten().tolist()
        for k, q, got in zip(old, leader.flatten().tolist(), new, strict=True):
            assert abs(got - (momentum * k + (1 - momentum) * q)) < 1e-12


def test_momentum_0_copies_and_1_never_moves_a_weight():
    source = network(1)
    copied, kept = network(0), network(0)
    momentum_update(copied, source, 0)
    assert same(copied.state_dict(), source.state_dict())
    before = state(kept)
    momentum_update(kept, source, 1)
    assert all(torch.equal(value, before[name]) for name, value in kept.named_parameters())


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_buffers_are_copied_the_counter_too(momentum):
    target, source = network(0), network(2)
    momentum_update(target, source, momentum)
    followed, led = dict(target.named_buffers()), dict(source.named_buffers())
    assert same(followed, led) and followed["1.num_batches_tracked"] == 3
    assert not any(followed[name].data_ptr() == led[name].data_ptr() for name in led)


def test_the_source_stays_and_no_graph_is_built():
    target, source = network(0), network(1)
    before = state(source)
    momentum_update(target, source, 0.5)
    assert same(state(source), before)
    assert all(value.grad_fn is None and value.grad is None for value in (*target.parameters(), *source.parameters()))
    places = [value.data_ptr() for value in target.parameters()]
    momentum_update(target, source, 0.5)
    assert [value.data_ptr() for value in target.parameters()] == places  # in place


@pytest.mark.parametrize(("momentum", "updates"), [(0.9, 7), (0.99, 100), (0.999, 1000)])
def test_after_n_updates_the_share_m_to_the_n_remains(momentum, updates):
    target, source = network(0), network(1)
    began, goal = target[0].weight.clone(), source[0].weight
    for _ in range(updates):
        momentum_update(target, source, momentum)
    assert torch.allclose(target[0].weight - goal, momentum**updates * (began - goal), rtol=0, atol=1e-12)


def test_a_follower_in_another_precision_keeps_its_own():
    target, source = network(0).float(), network(1)
    expected = 0.9 * target[0].weight.double() + 0.1 * source[0].weight
    momentum_update(target, source, 0.9)
    assert target[0].weight.dtype == torch.float32
    assert torch.allclose(target[0].weight.double(), expected, rtol=0, atol=1e-6)


def test_weights_are_matched_by_name_not_by_place():
    target, source = nn.Module(), nn.Module()
    for module, order in ((target, "ab"), (source, "ba")):
        for name in order:
            module.register_parameter(name, nn.Parameter(torch.tensor([float(ord(name))])))
            module.register_buffer(f"of_{name}", torch.tensor([float(ord(name))]))
    momentum_update(target, source, 0)
    assert same(target.state_dict(), source.state_dict())


@pytest.mark.parametrize("momentum", [-0.1, 1.1, float("nan")])
def test_bad_momentum(momentum):
    with pytest.raises(ValueError, match="momentum is"):
        momentum_update(network(), network(), momentum)


@pytest.mark.parametrize(
    "other",
    [
        nn.Linear(3, 4),
        nn.Sequential(nn.Linear(3, 5)),
        nn.Sequential(nn.Linear(1, 4)),  # it would broadcast
        nn.Sequential(nn.Linear(3, 4, bias=False)),
        nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False)),  # buffers alone
    ],
)
def test_other_modules_are_refused_untouched(other):
    target = nn.Sequential(nn.Linear(3, 4))
    before = state(target)
    with pytest.raises(ValueError, match="names or shapes"):
        momentum_update(target, other, 0.5)
    assert same(state(target), before)


def test_a_key_encoder_starts_equal_shares_nothing_and_takes_no_gradient():
    encoder = network()
    copy = key_encoder(encoder)
    assert same(copy.state_dict(), encoder.state_dict())
    places = {value.data_ptr() for value in encoder.state_dict().values()}
    assert not places & {value.data_ptr() for value in copy.state_dict().values()}
    assert not any(value.requires_grad for value in copy.parameters())
    assert all(value.requires_grad for value in encoder.parameters())
    assert not copy(torch.randn(4, 3, dtype=torch.float64)).requires_grad


# --- the queue -------------------------------------------------------------------------------------------------------


def sequences(seed: int) -> tuple[int, int, list[tuple[torch.Tensor, torch.Tensor | None]]]:
    """Size, width and twelve batches: empty, one row, some, exactly the size, more, several times the size."""
    rng = np.random.default_rng(seed)
    size, dim = int(rng.integers(1, 18)), int(rng.integers(1, 5))
    sizes = rng.choice([0, 1, 2, 3, 5, size, size + 1, 2 * size, 3 * size + 1], 12)
    batches = [
        (torch.from_numpy(rng.normal(size=(n, dim))), torch.from_numpy(rng.integers(0, 99, n)) if i % 3 else None)
        for i, n in enumerate(sizes)
    ]
    return size, dim, batches


def agrees(kind: type[FeatureQueue], seed: int, dtype: torch.dtype = torch.float64) -> bool:
    """Whether after every batch the queue holds what a deque does, and what was read from it earlier did not change."""
    size, dim, batches = sequences(seed)
    queue, truth = kind(size, dim).to(dtype), deque(maxlen=size)
    for keys, ids in batches:
        try:
            read = queue.keys
            before = read.clone()
            queue.enqueue(keys, ids)
            got = queue.keys
        except (RuntimeError, IndexError):
            return False
        truth.extend(zip(keys.to(dtype), [NO_ID] * len(keys) if ids is None else ids.tolist(), strict=True))
        expected = torch.stack([key for key, _ in truth]) if truth else torch.zeros(0, dim, dtype=dtype)
        if got.dtype != dtype or len(queue) != len(truth) or not torch.equal(got, expected):
            return False
        if queue.ids.tolist() != [i for _, i in truth] or not torch.equal(read, before):
            return False
    return True


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_deque_holds_the_same(dtype):
    assert all(agrees(FeatureQueue, seed, dtype) for seed in range(100))


STEPS = st.tuples(st.integers(0, 12), st.booleans(), st.booleans())  # how many keys, with ids?, restored before?


@settings(max_examples=150, deadline=None)
@given(size=st.integers(1, 9), steps=st.lists(STEPS, max_size=12))
def test_a_deque_holds_the_same_over_any_steps_and_restarts(size, steps):
    queue, truth = FeatureQueue(size, 2), deque(maxlen=size)
    for step, (new, with_ids, restored) in enumerate(steps):
        if restored:
            saved, queue = state(queue), FeatureQueue(size, 2)
            queue.load_state_dict(saved)
        ids = torch.arange(new) + 100 * step
        keys = torch.stack([ids + 0.25, ids + 0.75], dim=1)
        queue.enqueue(keys, ids if with_ids else None)
        truth.extend(zip(keys.tolist(), ids.tolist() if with_ids else [NO_ID] * new, strict=True))
        assert queue.keys.tolist() == [key for key, _ in truth]
        assert queue.ids.tolist() == [owner for _, owner in truth] and len(queue) == len(truth)
    assert int(queue.came) == sum(new for new, *_ in steps)


class OnlyMultiplesOfTheBatch(FeatureQueue):  # MoCo's, and USER's released code
    def enqueue(self, keys, ids=None):
        place = int(self.came) % self.size
        self.stored[place : place + len(keys)] = keys.to(self.stored)
        self.owners[place : place + len(keys)] = torch.full((len(keys),), NO_ID) if ids is None else ids
        self.came += len(keys)


class FillsTheTailWithoutWrapping(FeatureQueue):
    def enqueue(self, keys, ids=None):
        place = int(self.came) % self.size
        fits = min(len(keys), self.size - place)
        super().enqueue(keys[:fits], None if ids is None else ids[:fits])
        self.came += len(keys) - fits


class ReturnsUnfilledSlots(FeatureQueue):
    keys = property(lambda self: self.stored.clone())
    ids = property(lambda self: self.owners.clone())


class KeepsTheFirstRowsOfALongBatch(FeatureQueue):
    def enqueue(self, keys, ids=None):
        super().enqueue(keys[: self.size], None if ids is None else ids[: self.size])


class DropsTheNewWhenFull(FeatureQueue):
    def enqueue(self, keys, ids=None):
        room = self.size - len(self)
        super().enqueue(keys[:room], None if ids is None else ids[:room])


class StartsAgainAtTheFront(FeatureQueue):
    def enqueue(self, keys, ids=None):
        if int(self.came) % self.size + len(keys) > self.size:
            self.came -= self.came % self.size
        super().enqueue(keys, ids)


class LeavesTheIdsOfKeysThatWereOverwritten(FeatureQueue):
    def enqueue(self, keys, ids=None):
        owners = self.owners.clone()
        super().enqueue(keys, ids)
        if ids is None:
            self.owners.copy_(owners)


class HandsOutItsOwnMemory(FeatureQueue):
    @property
    def keys(self):
        aligned = self.came % self.size == 0 or self.came < self.size
        return self.stored[: len(self)] if aligned else super().keys


WRONG = [
    OnlyMultiplesOfTheBatch,
    FillsTheTailWithoutWrapping,
    ReturnsUnfilledSlots,
    KeepsTheFirstRowsOfALongBatch,
    DropsTheNewWhenFull,
    StartsAgainAtTheFront,
    LeavesTheIdsOfKeysThatWereOverwritten,
    HandsOutItsOwnMemory,
]


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_queues_are_told_from_it(wrong):
    assert not all(agrees(wrong, seed) for seed in range(100))


def test_what_others_do_to_the_count_is_noticed():
    queue = FeatureQueue(4, 1)
    queue.enqueue(torch.arange(3.0)[:, None])
    emptied = FeatureQueue(4, 1).state_dict()
    copied = deepcopy(queue)
    queue.load_state_dict(emptied)
    assert len(queue) == 0 and len(copied) == 3
    with torch.no_grad():
        queue.came.fill_(2)
    assert len(queue) == 2
    queue.came = torch.tensor(1)
    assert len(queue) == 1 and queue.keys.shape == (1, 1)


def test_by_hand():
    queue = FeatureQueue(3, 1)
    assert len(queue) == 0 and queue.keys.shape == (0, 1) and queue.ids.shape == (0,)
    queue.enqueue(torch.tensor([[1.0], [2.0]]), torch.tensor([7, 8]))
    assert queue.keys.tolist() == [[1], [2]] and queue.ids.tolist() == [7, 8] and len(queue) == 2
    queue.enqueue(torch.tensor([[3.0], [4.0]]))
    assert queue.keys.tolist() == [[2], [3], [4]] and queue.ids.tolist() == [8, -1, -1] and len(queue) == 3


@pytest.mark.parametrize("way", ["state_dict", "safetensors"])
@pytest.mark.parametrize("seed", range(12))
def test_restored_in_the_middle_it_goes_on_alike(seed, way, tmp_path):
    size, dim, batches = sequences(seed)
    whole, restored = FeatureQueue(size, dim).double(), FeatureQueue(size, dim).double()
    for step, batch in enumerate(batches):
        whole.enqueue(*batch)
        if step == 5:
            if way == "safetensors":
                save_file(whole.state_dict(), tmp_path / "queue.safetensors")
            kept = load_file(tmp_path / "queue.safetensors") if way == "safetensors" else whole.state_dict()
            restored.load_state_dict(kept)
        elif step > 5:
            restored.enqueue(*batch)
            assert torch.equal(restored.keys, whole.keys) and torch.equal(restored.ids, whole.ids)
    assert same(restored.state_dict(), whole.state_dict())


def test_a_loss_on_its_keys_can_be_backpropagated_after_the_next_batch():
    queue, query = FeatureQueue(4, 2), torch.tensor([1.0, 2.0], requires_grad=True)
    queue.enqueue(torch.tensor([[1.0, 0.0], [0.0, 3.0], [1.0, 1.0], [5.0, 5.0]]))
    loss = (queue.keys @ query).square().sum()
    expected = 2 * queue.keys.T @ (queue.keys @ query.detach())
    queue.enqueue(torch.full((3, 2), 100.0))
    loss.backward()
    assert torch.equal(query.grad, expected)


def test_keys_carry_no_gradient_and_are_not_the_callers_memory():
    queue, keys, ids = FeatureQueue(4, 2), torch.ones(3, 2, requires_grad=True), torch.arange(3)
    queue.enqueue(keys * 2, ids)
    assert not queue.keys.requires_grad and not queue.stored.requires_grad
    plain = torch.ones(1, 2)
    queue.enqueue(plain, ids[:1])
    plain += 1
    ids += 50
    assert queue.keys.tolist() == [[2, 2]] * 3 + [[1, 1]] and queue.ids.tolist() == [0, 1, 2, 0]


def test_nothing_of_it_is_trained_and_all_of_it_is_saved():
    queue = FeatureQueue(4, 2)
    assert not list(queue.parameters())
    assert queue.state_dict().keys() == {"stored", "owners", "came"}


@pytest.mark.parametrize("kind", [torch.int32, torch.int64, torch.uint8])
def test_ids_of_any_whole_type(kind):
    queue = FeatureQueue(4, 2)
    queue.enqueue(torch.ones(2, 2), torch.tensor([3, 5]).to(kind))
    assert queue.ids.tolist() == [3, 5] and queue.ids.dtype == torch.int64


@pytest.mark.parametrize(
    ("keys", "ids", "message"),
    [
        (torch.ones(2, 3), None, "keys has shape"),
        (torch.ones(4), None, "keys has shape"),
        (torch.ones(1, 2, 4), None, "keys has shape"),
        (torch.ones(2, 4, dtype=torch.long), None, "keys holds torch.int64"),
        ([[1.0] * 4], None, "keys is a list"),
        (torch.ones(2, 4), torch.arange(3), "ids has shape"),
        (torch.ones(2, 4), torch.zeros(2, 1, dtype=torch.long), "ids has shape"),
        (torch.ones(2, 4), torch.ones(2), "ids holds torch.float32"),
        (torch.ones(2, 4), torch.ones(2, dtype=torch.bool), "ids holds torch.bool"),
        (torch.ones(2, 4), [1, 2], "ids is a list"),
    ],
)
def test_bad_keys_or_ids_change_nothing(keys, ids, message):
    queue = FeatureQueue(3, 4)
    queue.enqueue(torch.full((2, 4), 9.0))
    before = state(queue)
    with pytest.raises(ValueError, match=message):
        queue.enqueue(keys, ids)
    assert same(state(queue), before)


@pytest.mark.parametrize(
    ("size", "dim", "named"),
    [(0, 3, "size is 0"), (-1, 3, "size is -1"), (3, 0, "dim is 0"), (2.5, 3, "size is 2.5"), (3, "4", "dim is '4'")],
)
def test_a_size_and_a_width_are_whole_numbers_of_at_least_1(size, dim, named):
    with pytest.raises(ValueError, match=f"{named}, expected a whole number of 1 or more"):
        FeatureQueue(size, dim)


def test_a_plain_object_moves_with_what_it_holds():
    plain = SimpleNamespace(stored=torch.zeros(3, 2), owners=FeatureQueue(3, 2), came=0)
    assert to_device(plain, "meta") is plain and plain.came == 0
    assert plain.stored.device.type == plain.owners.stored.device.type == "meta"
