"""How every check works: cases, a specification, and the mistakes that explain a difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from itr_lib.checks import symptoms
from itr_lib.checks.device import devices, on_device
from itr_lib.checks.outcome import TOLERANCE, Inputs, as_kind, close, is_float, run, same, same_outcome
from itr_lib.checks.trial import Trial
from itr_lib.checks.wrong import WrongAnswer

Family = tuple[Callable, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class Case:
    """Inputs by argument name, floats in float64.

    Attributes:
        inputs: what the function is called with.
        trap: what this case is there for, to complete "right elsewhere, but not where ..."; "" for an ordinary one.
        worked: on an example, the number that the docstring states, which a test compares.
    """

    inputs: Inputs
    trap: str = ""
    worked: Any = None


@dataclass(frozen=True)
class Rehearsal:
    """A part of the lesson's real work.

    Attributes:
        inputs: makes the arguments of one call.
        calls: how many such calls the lesson makes in the profile ``quick``.
    """

    inputs: Callable[[], Inputs]
    calls: int


@dataclass(frozen=True)
class Exercise:
    """One exercise's check.

    Attributes:
        slug: its name in the notebook.
        library: the library's function, with the parameters of the stub: what runs where nothing was attempted.
        example: the docstring's example, always the first case.
        cases: further cases, made anew at each call.
        specification: the right answer as plain loops.
        mistakes: what a learner is told -> the wrong function that would give just that result in all cases.
        family: a wrong function with options, and what a learner is told -> options; each, and each two together.
        gradients: names of the inputs by which the result is differentiated too.
        exact: the result is right or wrong, never nearly right (ranks, orders, choices): float64 alone.
        index: the result serves as an index, so it holds whole numbers, or truth values, as the specification's does.
        rehearsal: what the lesson will ask of the function, so that a loop does not hold it up.
        parts: how many of the stub's regions are to be written (a class has several).
        may_change: names of the inputs that the function is asked to change.
        explain: (inputs, result, expected) -> what may be wrong when no mistake matches, or None.
        steps: takes a case's inputs, and says in words and numbers how the right result comes about; for what nobody
            foresaw.
        properties: used instead of ``specification`` where many answers are right: takes the inputs and a function
            that runs the answer on them (with changes by name), raises AssertionError with the diagnosis.
    """

    slug: str
    cases: Callable[[], Iterator[Case]]
    specification: Callable | None = None
    mistakes: dict[str, Callable] = field(default_factory=dict)
    gradients: tuple[str, ...] = ()
    explain: Callable[[Inputs, Any, Any], str | None] | None = None
    steps: Callable[..., str] | None = None
    properties: Callable[[Inputs, Callable[..., Any]], None] | None = None
    library: Callable | None = None
    example: Case | None = None
    family: Family | None = None
    exact: bool = False
    index: bool = False
    rehearsal: Rehearsal | None = None
    parts: int = 1
    may_change: tuple[str, ...] = ()


@dataclass(frozen=True)
class Passed:
    """A right answer: in how many cases, and whether its results came as arrays or lists where tensors go on."""

    cases: int
    converted: bool = False


def verify(exercise: Exercise, answer: object) -> Passed:
    """Run the check. Raises :class:`WrongAnswer` with the diagnosis; ``NotImplementedError`` passes through."""
    if not callable(answer):
        kind = type(answer).__name__
        raise WrongAnswer(f"check got a {kind}, expected the function itself, without calling it")
    if exercise.properties is not None:
        return _verify_properties(exercise, answer)
    trials = [_try(exercise, answer, case, version) for case, version in all_cases(exercise)]
    wrong = [trial for trial in trials if trial.problem(exercise.index)]
    if wrong:
        raise _diagnosis(exercise, answer, trials, wrong)
    if exercise.gradients:
        _verify_gradients(exercise, answer, trials)
    tensors = any(isinstance(trial.expected, Tensor) for trial in trials)
    return Passed(len(trials), tensors and any(trial.outcome.converted for trial in trials))


def all_cases(exercise: Exercise) -> Iterator[tuple[Case, Inputs]]:
    """The example and all cases: in float64, in float32, and on the GPU of a lesson that was opened for one."""
    for case in ([exercise.example] if exercise.example else []) + list(exercise.cases()):
        inputs = case.inputs
        yield case, inputs
        if not exercise.exact and any(map(is_float, inputs.values())):
            yield case, {name: value.float() if is_float(value) else value for name, value in inputs.items()}
        for device in devices()[1:] if any(isinstance(value, Tensor) for value in inputs.values()) else ():
            yield case, on_device(inputs, device)


def _try(exercise: Exercise, answer: Callable, case: Case, inputs: Inputs) -> Trial:
    expected = run(exercise.specification, inputs)
    if expected.error:
        raise expected.error
    outcome = run(answer, inputs, may_change=exercise.may_change)
    outcome = replace(outcome, value=as_kind(outcome.value, expected.value))
    return Trial(inputs, case.trap, outcome, expected.value)


def _verify_properties(exercise: Exercise, answer: Callable) -> Passed:
    total = 0
    for case, inputs in all_cases(exercise):
        total += 1

        def call(inputs: Inputs = inputs, trap: str = case.trap, **changes: Any) -> Any:
            given = inputs | changes
            outcome = run(answer, given, may_change=exercise.may_change)
            trial = Trial(given, trap, outcome, None)
            if outcome.error or outcome.changed:
                if isinstance(outcome.error, AssertionError):
                    raise outcome.error
                raise WrongAnswer(trial.problem())
            return outcome.value

        try:
            exercise.properties(inputs, call)
        except AssertionError as error:
            raise WrongAnswer(str(error)) from None
    return Passed(total)


def _verify_gradients(exercise: Exercise, answer: Callable, trials: list[Trial]) -> None:
    own = [run(answer, trial.inputs, exercise.gradients) for trial in trials]
    right = [run(exercise.specification, trial.inputs, exercise.gradients) for trial in trials]
    names = ", ".join(exercise.gradients)
    for trial, mine, wanted in zip(trials, own, right, strict=True):
        if mine.error:
            raise WrongAnswer(replace(trial, outcome=mine).problem())
        if mine.cut:
            raise WrongAnswer(
                f"your function switches off the gradient of its input {mine.cut} itself (requires_grad_(False) or "
                f"detach_()), for the caller too: {mine.cut}.detach() is another tensor, and leaves it alone"
            )
        if not mine.has_graph:
            if all(float(g.abs().sum()) == 0 for g in wanted.gradients):
                continue
            raise WrongAnswer(
                f"the value is right, but it has no gradient by {names}: numpy, float(), .item(), .detach(), .tolist() "
                "and torch.tensor(...) of a result cut it off; keep to torch operations"
            )
        if not all(bool(g.isfinite().all()) for g in wanted.gradients):
            continue  # there is none, as at a length of 0
        for name, gradient, expected in zip(exercise.gradients, mine.gradients, wanted.gradients, strict=True):
            _expect_gradient(name, gradient, expected)


def _expect_gradient(name: str, own: Tensor, right: Tensor) -> None:
    if not bool(own.isfinite().all()):
        raise WrongAnswer(
            f"the value is right, but its gradient by {name} is NaN: the log of a probability 0, 0 times "
            "infinity, or a division by a length of 0 on the way; log_softmax, logsumexp and F.normalize are safe"
        )
    # In float32 a right one was off by 3.6e-5 in 40 drawings of all cases: sums of products with numbers near 200.
    if not close(own, right, 4 * TOLERANCE if right.dtype == torch.float32 else TOLERANCE):
        raise WrongAnswer(
            f"the value is right, but its gradient by {name} is not: an operation without a gradient "
            f"(.item(), .detach(), a comparison, a new tensor) stands between {name} and your result"
        )


def _diagnosis(exercise: Exercise, answer: Callable, trials: list[Trial], wrong: list[Trial]) -> WrongAnswer:
    """What is wrong, in the order in which a learner asks: the small example, the likely mistake, the numbers."""
    first = wrong[0]
    sometimes_none = _sometimes_none(trials, first)
    told = (
        ("" if sometimes_none else first.blunder())
        or _known(exercise, trials, wrong)
        or symptoms.part(wrong)
        or sometimes_none
        or first.problem(exercise.index, plain=True)
        or _explained(exercise, first)
        or symptoms.name(trials, wrong, answer, exercise.specification)
        or _step_by_step(exercise, first)
        or "your result differs from what is expected"
    )
    if told == symptoms.NOT_FINITE:
        first = next((trial for trial in wrong if not trial.is_finite()), first)
    lines = [_about_the_example(exercise, wrong[0]), told, first.difference(), first.shapes()]
    return WrongAnswer("\n".join(line for line in lines if line), told)


def _sometimes_none(trials: list[Trial], first: Trial) -> str:
    """What is said of None where other cases gave a result: no return is missing at the end."""
    if first.outcome.error or first.outcome.value is not None or first.expected is None:
        return ""
    if all(trial.outcome.error or trial.outcome.value is None for trial in trials):
        return ""
    return (
        "your function returned None here, and a result elsewhere: a way through it reaches no return, or a name keeps "
        "the None that it began with"
    )


def _step_by_step(exercise: Exercise, first: Trial) -> str | None:
    if exercise.steps is None:
        return None
    return f"no mistake that is known here explains it; go through this case by hand: {exercise.steps(**first.inputs)}"


def _about_the_example(exercise: Exercise, first: Trial) -> str:
    if exercise.example is None:
        return ""
    if first.inputs is exercise.example.inputs:
        return "Wrong already on the docstring's example:"
    return "The docstring's example comes out right; something else does not:"


def _explained(exercise: Exercise, first: Trial) -> str | None:
    if exercise.explain is None or first.outcome.error:
        return None
    return exercise.explain(first.inputs, first.outcome.value, first.expected)


def _known(exercise: Exercise, trials: list[Trial], wrong: list[Trial]) -> str | None:
    """The known mistake, or the two, that give this result in every case."""
    for message, mistake in exercise.mistakes.items():
        if _explains(mistake, trials, wrong):
            return message
    if exercise.family is None:
        return None
    function, toggles = exercise.family
    for together in [*combinations(toggles, 1), *combinations(toggles, 2)]:
        options = {name: value for message in together for name, value in toggles[message].items()}
        if len(options) < sum(len(toggles[message]) for message in together):
            continue  # two values for one option
        if _explains(lambda options=options, **inputs: function(**inputs, **options), trials, wrong):
            return together[0] if len(together) == 1 else f"two things: {together[0]}; and {together[1]}"
    return None


def _explains(mistake: Callable, trials: list[Trial], wrong: list[Trial]) -> bool:
    """Whether a mistake does what the answer did, everywhere; a case that it cannot be made on may have any error."""
    explained = 0
    for trial in [wrong[0], *trials]:
        outcome = run(mistake, trial.inputs, may_change=tuple(trial.inputs))
        agrees = same_outcome(outcome, trial.outcome)
        if not agrees and not (outcome.error and trial in wrong):
            return False
        explained += agrees and trial in wrong and not same(outcome.value, trial.expected)  # a kind may be wrong alone
    return explained > 0
