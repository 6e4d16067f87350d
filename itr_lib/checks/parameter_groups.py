"""``parameter-groups``, lesson 06.

Which parameters learn, at which rate, and which do not: what AdamW is given, and the state in which the model is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import GeneratorType
from typing import Any

import torch
from torch import Tensor, nn

from itr_lib.checks.frame import Case, Exercise
from itr_lib.checks.outcome import Inputs


class _Bench(nn.Module):
    """A small model with a pretrained part, which a check calls an answer with as it is, not as a copy.

    ``scale`` belongs to no part. With ``tied`` the head shares a weight with the pretrained part; with ``fixed`` a
    weight outside of it was frozen before.
    """

    def __init__(self, tied: bool = False, fixed: bool = False):
        super().__init__()
        self.head = nn.Linear(3, 3, bias=False)
        self.pretrained = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Sequential(nn.Dropout(0.5)))
        self.project = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5), nn.BatchNorm1d(2))
        self.scale = nn.Parameter(torch.ones(()))
        self.tied, self.fixed = tied, fixed
        if tied:
            self.head.weight = self.pretrained[0].weight
        self.begun = {name: value.clone() for name, value in self.state_dict().items()}
        self.own = list(self.named_parameters())

    def restart(self) -> None:
        """As it was before anybody touched it."""
        self.load_state_dict(self.begun)
        self.requires_grad_(True).train()
        if self.fixed:
            self.project[0].bias.requires_grad_(False)

    def __deepcopy__(self, memo: dict) -> _Bench:
        self.restart()
        return self


def group_cases() -> Iterator[Case]:
    """Shares above 0 and 0; a weight of both parts; a weight outside that was frozen before."""
    for share, trap in [(0.5, ""), (0.1, ""), (1.0, "both parts learn at one rate"), (0.0, "share is 0")]:
        yield Case({"model": _Bench(), "rate": 0.02, "share": share}, trap)
    for share in (0.1, 0.0):
        yield Case({"model": _Bench(tied=True), "rate": 0.02, "share": share}, "a weight belongs to both parts")
        yield Case({"model": _Bench(fixed=True), "rate": 0.02, "share": share}, "a weight was frozen before")


def group_properties(inputs: Inputs, run: Callable[..., Any]) -> None:
    """What is trained and how fast; what is left of the rest of the model."""
    model, rate, share = inputs["model"], inputs["rate"], inputs["share"]
    result = run()
    names = {id(parameter): name for name, parameter in model.own}
    pretrained = {id(parameter) for parameter in model.pretrained.parameters()}
    if told := _kind(result):
        raise AssertionError(told)
    rates = [
        (_parameter(p), group.get("lr")) for group in result for p in _listed(group["params"])
    ]  # each parameter with its rate
    told = (
        _foreign(rates, names)
        or _changed(model)
        or (_about_freezing(model, pretrained, rates) if share == 0 else _about_learning(model, pretrained))
        or _missing(model, rates, pretrained if share == 0 else set())
        or _twice(rates, names, pretrained)
        or _rates(rates, names, pretrained, rate, share)
    )
    if told:
        raise AssertionError(f"{told}\n(rate {rate:g}, share {share:g})")


def _listed(params: Any) -> list:
    return [params] if isinstance(params, Tensor) else list(params)


def _parameter(entry: Any) -> Any:
    """A parameter, or what ``named_parameters`` gives, which AdamW takes too."""
    return entry[1] if isinstance(entry, tuple) and len(entry) == 2 else entry


def _kind(result: Any) -> str:
    """What is wrong with the kind of the result, "" where nothing is."""
    if result is None:
        return "your function returned None: return the list of groups at its end"
    if isinstance(result, torch.optim.Optimizer):
        return "your function returned an optimizer: return the list of groups that AdamW is to be given"
    if isinstance(result, dict):
        return "your function returned one dict: return a list of dicts, one a group"
    if isinstance(result, GeneratorType) or not isinstance(result, list | tuple):
        return f"your function returned a {type(result).__name__}, expected a list of dicts"
    if any(isinstance(group, Tensor) for group in result):
        return 'your function returned parameters: put them in groups, {"params": [...], "lr": ...}'
    if odd := [group for group in result if not isinstance(group, dict) or "params" not in group]:
        keys = sorted(map(str, odd[0])) if isinstance(odd[0], dict) else type(odd[0]).__name__
        return f'a group is {keys}: expected a dict with "params" and "lr"'
    if any(isinstance(group["params"], set) for group in result):
        return "the parameters of a group are a set, which AdamW refuses: its order is another one in each run"
    return ""


def _foreign(rates: list[tuple], names: dict[int, str]) -> str:
    for parameter, _ in rates:
        if isinstance(parameter, nn.Module):
            return "a group holds a module: it is to hold parameters, list(module.parameters())"
        if isinstance(parameter, str):
            return "a group holds names of parameters: it is to hold the parameters themselves"
        if id(parameter) not in names:
            return "a group holds tensors that are not the model's parameters: a copy would learn, and the model not"
    return ""


def _changed(model: _Bench) -> str:
    """Values are nobody's business here."""
    now = model.state_dict()
    if now.keys() != model.begun.keys():
        return "your function changes the parts of the model: leave them where they are"
    for name, value in now.items():
        if not torch.equal(value, model.begun[name]):
            return f"your function changes the values of {name}: which parameters learn is all that is asked for"
    return ""


def _about_freezing(model: _Bench, pretrained: set[int], rates: list[tuple]) -> str:
    """What is wrong where the pretrained part is to be frozen."""
    parts = dict(model.named_parameters())
    outside = [
        n for n, p in parts.items() if not p.requires_grad and id(p) not in pretrained and not _was_fixed(model, n)
    ]
    if outside:
        return f"{outside[0]} is frozen, too (requires_grad_(False)): only model.pretrained is to be"
    if any(p.requires_grad for p in model.pretrained.parameters()):
        if any(id(p) in pretrained for p, _ in rates):
            return (
                "with share 0 the pretrained part is still in a group: at a rate of 0 its gradients are computed all "
                "the same, cost time and memory, and take part in the clipping; requires_grad_(False), and no group"
            )
        if not all(p.requires_grad for p in model.pretrained.parameters()):
            return "only some of the pretrained parameters are frozen: model.pretrained.requires_grad_(False) takes all"
        return (
            "the pretrained part is in no group, but its gradients are still computed: they cost time and memory, and "
            "take part in the clipping; model.pretrained.requires_grad_(False)"
        )
    if any(id(p) in pretrained for p, _ in rates):
        return "with share 0 the frozen part is still in a group, where weight decay belongs to it: leave it out"
    if not model.training or not model.project.training:
        return "the whole model is in eval mode: only model.pretrained is to be, the rest learns with its dropout"
    if any(part.training for part in model.pretrained.modules()):
        return (
            "the pretrained part is frozen, but in train mode: its dropout still drops, and batch norm changes its "
            "running mean; model.pretrained.eval()"
        )
    return _unfrozen(model)


def _about_learning(model: _Bench, pretrained: set[int]) -> str:
    """What is wrong where all of the model is to learn."""
    if not all(p.requires_grad for p in model.pretrained.parameters()):
        return "the pretrained part is frozen though share is above 0: freeze it only where share is 0"
    if any(not p.requires_grad for n, p in model.named_parameters() if not _was_fixed(model, n)):
        return "a parameter that is to learn is frozen: leave requires_grad alone where share is above 0"
    if not all(part.training for part in model.modules()):
        return "with a share above 0 a part of the model is in eval mode: leave all of it in train mode"
    return _unfrozen(model)


def _was_fixed(model: _Bench, name: str) -> bool:
    return model.fixed and name == "project.0.bias"


def _unfrozen(model: _Bench) -> str:
    if model.fixed and model.project[0].bias.requires_grad:
        return "a weight that somebody froze before, outside of model.pretrained, learns again: leave it as it is"
    return ""


def _missing(model: _Bench, rates: list[tuple], out: set[int]) -> str:
    there = {id(parameter) for parameter, _ in rates}
    lost = [n for n, p in model.own if id(p) not in there | out and p.requires_grad]
    if not lost:
        return ""
    if lost == ["scale"]:
        return "scale is in no group: it belongs to the model itself, not to a part; begin from model.parameters()"
    return f"{', '.join(lost[:3])} {'is' if len(lost) == 1 else 'are'} in no group, and would never learn"


def _twice(rates: list[tuple], names: dict[int, str], pretrained: set[int]) -> str:
    seen: set[int] = set()
    for parameter, _ in rates:
        if id(parameter) in seen:
            both = " (of both parts: compare the parameters themselves, by id, not their names)"
            return (
                f"{names[id(parameter)]} is in the groups twice, which AdamW refuses"
                f"{both if id(parameter) in pretrained else ''}"
            )
        seen.add(id(parameter))
    return ""


def _rates(rates: list[tuple], names: dict[int, str], pretrained: set[int], rate: float, share: float) -> str:
    """Which parameter learns at another rate than it should."""
    if any(value is None for _, value in rates):
        return 'a group has no "lr": it would learn at AdamW\'s own rate'
    wrong = {names[id(p)]: float(value) for p, value in rates
             if abs(float(value) - (share * rate if id(p) in pretrained else rate)) > 1e-9}  # fmt: skip
    if not wrong:
        return ""
    of_pretrained = {n: v for n, v in wrong.items() if n in {names[i] for i in pretrained}}
    name, value = next(iter((of_pretrained or wrong).items()))
    if len({*of_pretrained}) and set(wrong) != set(of_pretrained):
        exchanged = all(abs(v - (rate if n in of_pretrained else share * rate)) < 1e-9 for n, v in wrong.items())
        if exchanged:
            return "the rates are exchanged: the rest learns at rate, the pretrained part at share * rate"
    if of_pretrained and abs(value - share) < 1e-9:
        return f"the pretrained part learns at share itself, {share:g}: it is a share of rate, share * rate"
    if of_pretrained and abs(value - rate) < 1e-9:
        return f"{name} learns at rate, {rate:g}: a pretrained parameter learns at share * rate"
    return f"{name} learns at {value:g}, expected {share * rate if of_pretrained else rate:g}"


def library_groups(model: nn.Module, rate: float, share: float) -> list[dict[str, Any]]:
    """Each parameter once; one that both parts share counts as pretrained."""
    pretrained = list(model.pretrained.parameters())
    known = {id(parameter) for parameter in pretrained}
    groups = [{"params": [p for p in model.parameters() if id(p) not in known], "lr": rate}]
    if share == 0:
        model.pretrained.requires_grad_(False).eval()
        return groups
    return [*groups, {"params": pretrained, "lr": share * rate}]


EXERCISE = Exercise(
    "parameter-groups",
    library=library_groups,
    example=Case({"model": _Bench(), "rate": 0.1, "share": 0.5}),
    cases=group_cases,
    properties=group_properties,
    may_change=("model",),
)
