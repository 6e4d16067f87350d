"""A small lesson as source, in parts, for tests of the builder and the runner."""

from __future__ import annotations

from pathlib import Path

HEAD = """\
# %% [markdown]
# # A small lesson
#
# A formula $\\frac{x^\\top y}{\\lVert x \\rVert}$ and $$\\sum_i s_{ij}$$

# %% tags=["parameters"]
import os

profile = os.environ.get("ITR_PROFILE", "quick")
device = "auto"
seed = 0
data = "scenes"
root = ""
"""
EXERCISE = '''
# %% [markdown] exercise="mean-of-two" difficulty=2 minutes=8 points=3
# ### Two numbers
#
# Write the mean.
#
# <details><summary>First help</summary>Add.</details>
#
# <details><summary>Second help</summary>Halve.</details>

# %% solution="mean-of-two"
def mean_of_two(a, b):
    """1, 3 -> 2"""
    total = 0
    for _ in range(1):
        ### BEGIN SOLUTION
        total = a + b
        ### END SOLUTION
    return total / 2

# %% check="mean-of-two"
mean_of_two = check("mean-of-two", mean_of_two)
'''
CHECK = '''
# %%
def check(slug, answer):
    """The frame of itr_lib.checks, small."""
    try:
        print(slug, answer(1, 3))
    except NotImplementedError:
        print(f"{slug}: not attempted yet")
        return lambda a, b: (b + a) / 2
    return answer
'''
TAIL = """
# %%
import json
from pathlib import Path

summary = {"metrics": {"r1": 40.0, "extra": 1.0}, "seconds": 1.0, "peak_memory_mb": 10.0,
    "peak_gpu_memory_mb": 0.0}
Path(os.environ["ITR_METRICS"], "00_small.json").write_text(json.dumps(summary))
"""


def write(folder: Path, text: str = HEAD + CHECK + EXERCISE + TAIL, name: str = "00_small") -> Path:
    """Write a source into a repository of its own; returns the repository's folder."""
    (folder / "solutions").mkdir(exist_ok=True)
    (folder / "solutions" / f"{name}.py").write_text(text)
    return folder
