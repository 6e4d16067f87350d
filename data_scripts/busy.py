"""How long a training step takes on an idle machine and beside busy programs, by how torch's threads wait.

python -m data_scripts.busy --threads 2 --programs 2

Each number is the median of some steps of lesson 02's model, TERAN, on made batches of its size, in a process of its
own: the way to wait is read when torch is imported (see itr_lib/__init__.py). The busy programs add numbers, one core
each. Run it on a machine that does nothing else: it says first how much of it other programs take.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter

import psutil
import torch

from itr_lib.data.batches import Batch, CaptionBatch, ImageBatch
from itr_lib.lessons import recipes
from itr_lib.models import from_config

WAYS = {  # environment by name
    "300,000 rounds, as GNU's runtime": {"GOMP_SPINCOUNT": "300000"},
    "10,000 rounds, as the course": {"GOMP_SPINCOUNT": "10000"},
    "none: OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
}
REGIONS, FEATURES, WORDS, VOCABULARY = 12, 128, 20, 500  # about those of the scenes
WARM_UP = 2


def made_batch(size: int) -> Batch:
    """Random features, boxes and words, nothing padded."""
    every = torch.ones(size, REGIONS, dtype=torch.bool)
    images = ImageBatch(torch.randn(size, REGIONS, FEATURES), torch.rand(size, REGIONS, 4), every)
    words = torch.ones(size, WORDS, dtype=torch.bool)
    return Batch(images, CaptionBatch(torch.randint(VOCABULARY, (size, WORDS)), words), torch.arange(size))


def step_milliseconds(steps: int) -> float:
    """The median of so many training steps, in this process."""
    recipe = recipes.teran("quick")
    torch.manual_seed(0)
    text = replace(recipe.model.text, vocabulary_size=VOCABULARY)
    model = from_config(replace(recipe.model, feature_dim=FEATURES, text=text))
    batch, optimizer = made_batch(recipe.training.batch_size), torch.optim.AdamW(model.parameters())
    taken = []
    for _ in range(WARM_UP + steps):
        began = perf_counter()
        optimizer.zero_grad()
        recipe.objective(model, batch, 1).backward()
        optimizer.step()
        taken.append(1e3 * (perf_counter() - began))
    return statistics.median(taken[WARM_UP:])


def measured(way: dict[str, str], options: argparse.Namespace) -> float:
    """The same in a process of its own, whose threads wait in this way."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    command = [sys.executable, "-m", "data_scripts.busy", "--one", "--steps", str(options.steps)]
    environment = clean | way | {"OMP_NUM_THREADS": str(options.threads)}
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


@contextmanager
def busy_programs(count: int) -> Iterator[None]:
    """So many programs that compute until the block ends."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every way, idle and beside busy programs."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.busy", description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--programs", type=int, default=2, help="busy programs (%(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="training steps a number (%(default)s)")
    parser.add_argument("--one", action="store_true", help="print one number, as this process waits")
    options = parser.parse_args(arguments)
    if min(options.threads, options.programs, options.steps) < 1:
        parser.error("--threads, --programs and --steps must be at least 1")
    if options.one:
        print(step_milliseconds(options.steps))
        return 0
    taken = psutil.cpu_percent(1.0) / 100 * (os.cpu_count() or 1)
    print(
        f"torch {torch.__version__}, {os.cpu_count()} cores, of which other programs take {taken:.1f} before we begin"
    )
    print(f"{options.threads} threads, a batch of 128: milliseconds a step, median of {options.steps}")
    print(f"  {'a thread waits':36s} {'idle':>8s}   beside {options.programs} busy programs")
    for name, way in WAYS.items():
        idle = measured(way, options)
        with busy_programs(options.programs):
            beside = measured(way, options)
        print(f"  {name:36s} {idle:8.0f}   {beside:8.0f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
