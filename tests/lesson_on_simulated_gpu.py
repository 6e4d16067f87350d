"""A lesson's cells on the simulated GPU, in a process of their own; test_simulated_gpu.py starts it and judges.

    python tests/lesson_on_simulated_gpu.py solutions/00_retrieval_basics.py  # profile smoke; prints JSON

Answers are kept in the file that ITR_ANSWERS names, so that lessons find those of the ones before.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import simulated_gpu
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from itr_lib.course.source import read_source


def run(path: Path, device: str) -> dict:
    """All code cells, in the order in which a notebook runs them; the first error, what was warned, and the metrics."""
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        for place, cell in enumerate(read_source(path).cells, start=1):
            if cell.cell_type != "code":
                continue
            result = shell.run_cell(cell.source)
            if error := result.error_before_exec or result.error_in_exec:
                return {"error": f"cell {place}: {type(error).__name__}: {error}"}
            if "parameters" in cell.metadata.get("tags", []):
                shell.user_ns |= {"profile": "smoke", "device": device}
    warned = [str(warning.message) for warning in caught if warning.category is UserWarning]
    lesson = shell.user_ns["lesson"]
    return {"error": "", "device": lesson.device, "metrics": lesson.metrics, "warned": warned}


if __name__ == "__main__":
    simulated_gpu.install()
    print(json.dumps(run(Path(sys.argv[1]), "cuda")))
