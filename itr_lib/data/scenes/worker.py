"""Drawing scenes in several processes.

A worker is started with ``python -m itr_lib.data.scenes.worker`` and talks over its standard input and output.
``multiprocessing`` would import the caller's main script again in each child (spawn), which runs a plain script
without an ``if __name__`` guard a second time; or copy a process that already runs torch threads (fork), which
can hang. A command of our own has neither trouble, in a notebook, a script or a test. Workers leave out torch,
which takes seconds to import; each picture has its own random stream, so that who draws it makes no difference.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from itr_lib.data.scenes import Caption, Scene, make_captions, make_scene, make_twins
from itr_lib.data.scenes.regions import candidate_boxes, pad_boxes, region_object
from itr_lib.data.scenes.rendering import render

STREAMS = ("train", "val", "test", "swaps", "replaces", "detector", "detector-test")
TWIN_KINDS = {"swaps": "swap", "replaces": "replace"}
CHUNK = 50  # images a job; even, so that a pair of twins is never cut
PICTURE_SIZE = 112


@dataclass(frozen=True)
class Job:
    """Images ``start`` to ``stop`` of a stream. The same image is the same in every profile."""

    stream: str
    seed: int
    start: int
    stop: int


@dataclass(frozen=True)
class Drawn:
    """What a job yields: scenes, captions of each, pictures (n, 112, 112, 3) uint8, boxes, mask, objects shown."""

    scenes: list[Scene]
    captions: list[tuple[Caption, ...]]
    pictures: np.ndarray
    boxes: np.ndarray
    mask: np.ndarray
    shown: np.ndarray


def draw(job: Job) -> Drawn:
    """Make the scenes, captions, pictures and boxes of one job."""
    step = 2 if job.stream in TWIN_KINDS else 1  # twins come in pairs, which share a random stream
    scenes, captions, boxes = [], [], []
    for group in range(job.start // step, -(-job.stop // step)):
        root = [job.seed, STREAMS.index(job.stream), group]
        some, said = _one_group(job.stream, np.random.default_rng([*root, 0]))
        scenes += some
        captions += said
        boxes += [candidate_boxes(scene, np.random.default_rng([*root, 1])) for scene in some]
    padded, mask = pad_boxes(boxes)
    shown = np.full(mask.shape, -1, np.int16)
    for row, (scene, some) in enumerate(zip(scenes, boxes, strict=True)):
        shown[row, : len(some)] = region_object(scene, some)
    pictures = np.stack([render(scene, PICTURE_SIZE) for scene in scenes])
    return Drawn(scenes, captions, pictures, padded, mask, shown)


def _one_group(stream: str, rng: np.random.Generator) -> tuple[list[Scene], list[tuple[Caption, ...]]]:
    """One scene with its captions, or a pair of twins with one each."""
    if stream in TWIN_KINDS:
        twins = make_twins(rng, TWIN_KINDS[stream])
        return list(twins.scenes), [(caption,) for caption in twins.captions]
    scene = make_scene(rng)
    return [scene], [() if stream.startswith("detector") else make_captions(scene, rng)]


def draw_in_processes(stream: str, seed: int, count: int, processes: int | None = None) -> Iterator[Drawn]:
    """Draw the first ``count`` images of a stream, in order, chunk by chunk, with a worker for each core."""
    jobs = deque(Job(stream, seed, start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))
    processes = min(processes or usable_cores(), len(jobs))
    workers = SimpleQueue()
    started = [_start() for _ in range(processes)]
    for worker in started:
        workers.put(worker)
    pending = deque()
    try:
        with ThreadPoolExecutor(processes) as threads:
            while jobs or pending:
                while jobs and len(pending) < 2 * processes:  # a bound on the pictures held in memory
                    pending.append(threads.submit(_ask, workers, jobs.popleft()))
                yield pending.popleft().result()
    finally:
        for worker in started:
            worker.kill()
            worker.communicate()


def usable_cores() -> int:
    """Cores this process may use, at most 8."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, 8)


def _start() -> subprocess.Popen:
    package = str(Path(__file__).resolve().parents[3])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    one_thread = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **one_thread}
    command = [sys.executable, "-m", "itr_lib.data.scenes.worker"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def _ask(workers: SimpleQueue, job: Job) -> Drawn:
    """Give the job to a free worker and wait for its answer."""
    worker = workers.get()
    try:
        worker.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
        worker.stdin.flush()
        return pickle.load(worker.stdout)  # from our own child, over its own pipe
    except (BrokenPipeError, EOFError, pickle.UnpicklingError) as error:
        raise RuntimeError(f"The process that draws images {job} ended early: see its message above.") from error
    finally:
        workers.put(worker)


def main() -> None:
    """Answer jobs, one JSON line each, with pickles, until the input ends (as it does when the caller dies)."""
    from itr_lib.data.scenes import worker  # under its own name, so that what is pickled is found by the caller

    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    for line in sys.stdin:
        drawn = worker.draw(Job(**json.loads(line)))
        try:
            pickle.dump(drawn, answers, protocol=5)
            answers.flush()
        except BrokenPipeError:  # the caller was killed meanwhile: nobody is left to read, or to be told
            os._exit(1)


if __name__ == "__main__":
    main()
