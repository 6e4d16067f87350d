"""The day there is a GPU: its tests, what a training step takes of it, and the lessons in full with their bands.

    python -m data_scripts.gpu_day                               # within ten minutes
    python -m data_scripts.gpu_day --device cpu --profile smoke  # a rehearsal without a GPU

First the tests that hold the GPU against the CPU. Then a training step of every model, of the profile's size: its time,
its memory, what its matrix products come to a second as a share of what a large one alone reaches, and the price of
float32 and of deterministic sums. Then the lessons, all at a time, one seed after the other until the minutes are over;
their scenes are drawn first, unless the cache has them (``python -m data_scripts.make_scenes --profile full``).
``runs/gpu-day.json`` keeps all of it, and the lessons' numbers of earlier days by profile and seed; on a GPU lessons
with two seeds or more get bands of their own in ``tests/expected/<profile>.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch
from torch.nn.utils import clip_grad_norm_
from torch.utils.flop_counter import FlopCounterMode

from data_scripts.expect import Values, write_bands
from itr_lib.clock import seconds
from itr_lib.course import build as builder
from itr_lib.course.bands import place
from itr_lib.course.run import BUDGET_SECONDS, Options, select
from itr_lib.data import load_splits, tokenise, train_tokenizer
from itr_lib.data.batches import Batch, pair_batch
from itr_lib.files import write_whole
from itr_lib.lessons import recipes
from itr_lib.lessons.machine import choose_device, deterministic, peak_gpu_memory_mb, versions
from itr_lib.lessons.recipes import Recipe
from itr_lib.training_view import TrainingView

MODELS = {"VSE": recipes.vse, "TERAN": recipes.teran, "CHAN": recipes.chan, "USER": recipes.user, "TGDT": recipes.tgdt}
SIDE = {"cuda": 8192, "cpu": 512}  # of the square matrices whose product shows what is possible
STEPS = 5  # of which the fastest counts, after one that warms up


def main(arguments: Sequence[str] | None = None) -> int:
    """All of it; returns 0 where the tests passed and every lesson that was begun ran to its end."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.gpu_day", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--profile", default="full", choices=tuple(BUDGET_SECONDS))
    parser.add_argument("--lessons", nargs="+", default=[], metavar="NN")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=9.5, help="after which what still runs is stopped")
    options = parser.parse_args(arguments)
    ends = time.monotonic() + 60 * options.minutes
    try:
        choose_device(options.device)
        names = [path.stem for path in select(Options(lessons=tuple(options.lessons)), builder.REPO)]
    except ValueError as error:
        parser.error(str(error))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before CUDA is asked: deterministic sums need it
    path = builder.REPO / "runs" / "gpu-day.json"
    earlier = json.loads(path.read_text(encoding="utf-8"))["metrics"] if path.exists() else {}
    day = {"machine": machine(options.device), "profile": options.profile, "metrics": earlier, "lessons": []}
    with kept(day, path):
        day["tests"] = tests(options.device, ends)
    with kept(day, path):
        day["steps"] = steps(options.profile, options.device)
    seeds = earlier.setdefault(f"{options.profile} on {options.device}", {})
    with kept(day, path):
        day["lessons"] += lessons(options, names, ends, seeds)
    print(f"{builder.relative(path, builder.REPO)} holds all numbers")
    if options.device == "cuda":
        bands = builder.REPO / "tests" / "expected" / f"{options.profile}.json"
        write_bands(bands, place("scenes", options.device), values_of(seeds), widen=False)
        print(f"{builder.relative(bands, builder.REPO)} holds the bands")
    return 0 if day["tests"]["status"] == 0 and all(run["status"] in (0, 3) for run in day["lessons"]) else 1


@contextlib.contextmanager
def kept(day: dict, path: Path) -> Iterator[None]:
    """What is known so far is written afterwards, whatever happens inside: a lent machine may be gone any moment."""
    try:
        yield
    finally:
        path.parent.mkdir(exist_ok=True)
        write_whole(path, json.dumps(day, indent=1) + "\n")


def machine(device: str) -> dict:
    """What everything ran on."""
    name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} CPU"
    return {"device": device, "name": name, "cores": os.cpu_count()} | versions()


def tests(device: str, ends: float) -> dict:
    """The tests that hold a GPU against the CPU; skipped, and so passed, where there is none."""
    given = {"ITR_GPU": "1"} if device == "cuda" else {}
    command = [sys.executable, "-m", "pytest", "-q", "tests/test_gpu.py"]
    began = time.monotonic()
    status, told = within(command, ends, os.environ | given)
    print("tests:", told[-1] if told else "no word", flush=True)
    return {"status": status, "told": told[-30:], "seconds": round(time.monotonic() - began, 1)}


def within(command: list[str], ends: float, environment: dict | None = None) -> tuple[int, list[str]]:
    """Exit status and lines of a command; when the time is over it is stopped with all that it began: status 124."""
    process = subprocess.Popen(
        command, cwd=builder.REPO, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        told, _ = process.communicate(timeout=max(1.0, ends - time.monotonic()))
        return process.returncode, told.splitlines()
    except subprocess.TimeoutExpired:
        for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            with contextlib.suppress(psutil.Error):
                one.kill()
        return 124, process.communicate()[0].splitlines()


def steps(profile: str, device: str) -> dict[str, dict]:
    """What a training step of each model takes, by model."""
    data = load_splits("scenes", profile="smoke").train  # the size of a step does not depend on the number of pictures
    tokenizer = train_tokenizer(data.captions)
    tokens = tokenise(tokenizer, data.captions)
    best = {kind: product_rate(kind, device) for kind in ("bfloat16", "float32")}
    print(f"the bare product: {', '.join(f'{rate / 1e12:.1f} TFLOP/s in {kind}' for kind, rate in best.items())}")
    found = {}
    for name, recipe_of in MODELS.items():
        recipe = recipe_of(profile)
        rows = np.flatnonzero(np.diff(data.image_of_caption, prepend=-1))[: recipe.training.batch_size]
        batch = pair_batch(data, tokens, rows, device)
        step = partial(training_step, recipe, recipe.build(data, tokenizer).to(device), batch)
        found[name] = taken(step, recipe.training.precision, device) | {"pairs": len(rows)}
        found[name]["share_of_product"] = found[name]["flops_per_second"] / best[recipe.training.precision]
        print(f"{name}: " + ", ".join(f"{what} {value:.4g}" for what, value in found[name].items()), flush=True)
    return found


def product_rate(kind: str, device: str) -> float:
    """Floating-point operations a second of one large matrix product."""
    side = SIDE[device]
    a = torch.randn(side, side, device=device).to(getattr(torch, kind))
    return 2 * side**3 / fastest(lambda: a @ a)


def fastest(function: Callable[[], object]) -> float:
    """Seconds of the fastest of a few calls, after one that warms up."""
    return min([seconds(function) for _ in range(STEPS + 1)][1:])


def training_step(recipe: Recipe, model: torch.nn.Module, batch: Batch) -> Callable[[str], None]:
    """One step of training, as :func:`itr_lib.training.train` makes it, in a precision."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    model.train()

    def step(precision: str) -> None:
        loss = recipe.objective(TrainingView(model, precision, len(batch.image_ids)), batch, 1)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), recipe.training.clip_norm)
        optimizer.step()

    return step


def taken(made: Callable[[], Callable[[str], None]], precision: str, device: str) -> dict[str, float]:
    """Milliseconds of a step, as trained, in float32 and with deterministic sums; its work and its memory."""
    step = made()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    plain = fastest(lambda: step(precision))
    memory = peak_gpu_memory_mb(device)
    with FlopCounterMode(display=False) as counted:
        step(precision)
    with deterministic():
        repeatable = fastest(lambda: step(precision))
    wide = fastest(lambda: step("float32"))
    times = {"ms": 1e3 * plain, "ms_float32": 1e3 * wide, "ms_deterministic": 1e3 * repeatable}
    return times | {"gpu_mb": memory, "flops_per_second": counted.get_total_flops() / plain}


def lessons(options: argparse.Namespace, names: list[str], ends: float, seeds: dict[str, dict]) -> list[dict]:
    """Run all lessons at a time, seed by seed, while there is time; ``seeds`` gets the metrics of each by lesson."""
    runs, jobs = [], max(1, min(len(names), (os.cpu_count() or 1) // 2))
    folder = Options(profile=options.profile).folder(builder.REPO) / "metrics"
    for seed in options.seeds:
        for old in folder.glob("*.json"):
            old.unlink()
        words = f"--profile {options.profile} --device {options.device} --seed {seed} --jobs {jobs} --lessons"
        began = time.monotonic()
        command = [sys.executable, "-m", "itr_lib.course", "run", *words.split(), *names]
        status, told = within(command, ends)
        took = round(time.monotonic() - began, 1)
        ran = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
        seeds.setdefault(str(seed), {}).update({name: summary["metrics"] for name, summary in ran.items()})
        runs.append({"seed": seed, "status": status, "seconds": took, "told": told, "ran": ran})
        print(f"seed {seed}: {len(ran)} of {len(names)} lessons in {took:.0f} s, {jobs} at a time", flush=True)
        if time.monotonic() > ends - took:
            break  # another seed would not be done in time
    return runs


def values_of(seeds: dict[str, dict[str, dict[str, float]]]) -> Values:
    """Each metric's values, by lesson, of those that ran with several seeds: one alone says nothing of a spread."""
    values: Values = {}
    for ran in seeds.values():
        for name, metrics in ran.items():
            for metric, value in metrics.items():
                values.setdefault(name, {}).setdefault(metric, []).append(value)
    several = {name: metrics for name, metrics in values.items() if all(len(some) > 1 for some in metrics.values())}
    if missing := sorted(values.keys() - several.keys()):
        print(f"no bands yet, of one seed alone: {', '.join(missing)}")
    return several


if __name__ == "__main__":
    sys.exit(main())
