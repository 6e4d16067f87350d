"""Results as plain data, on their way from a process that nobody trusts to one that judges: no pickle, no code.

Numbers, texts, tensors, arrays, and lists, tuples, sets and dictionaries of them pass. Of anything else only the name
of its kind does, which is all that a diagnosis says of it.
"""

from __future__ import annotations

import base64
import builtins
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itr_lib.checks.outcome import Outcome
from itr_lib.checks.wrong import own_line

CONTAINERS = {"list": list, "tuple": tuple, "set": set}
NAMED = ("nan", "inf", "-inf")  # JSON has no word for them
DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64")


def packed(value: Any) -> Any:
    """A value as JSON can hold it."""
    if value is None or type(value) in (bool, str):
        return value
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return {"int": str(int(value))}  # of any length
    if isinstance(value, float | np.floating):
        return {"float": float(value) if math.isfinite(value) else str(float(value))}
    if isinstance(value, Tensor):
        return _packed_tensor(value)
    if isinstance(value, np.ndarray | np.bool_) and value.dtype != object:
        return {"array": packed(torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape)))}
    if isinstance(value, dict):
        return {"dict": [[packed(key), packed(one)] for key, one in value.items()]}
    if type(value).__name__ in CONTAINERS and type(value) is CONTAINERS[type(value).__name__]:
        return {type(value).__name__: [packed(one) for one in value]}
    return {"kind": type(value).__name__, "calls": callable(value), "values": hasattr(value, "values")}


def unpacked(data: Any) -> Any:
    """What :func:`packed` packed. Raises ``ValueError`` or ``TypeError`` for what it cannot have made."""
    if data is None or isinstance(data, bool | str):
        return data
    if not isinstance(data, dict):
        raise ValueError(f"a {type(data).__name__} came, expected packed data")
    if "int" in data:
        return int(data["int"])
    if "float" in data:
        return float(data["float"])
    if "tensor" in data:
        return _tensor(data["tensor"], data["dtype"], data["shape"])
    if "array" in data:
        return unpacked(data["array"]).numpy()
    if "dict" in data:
        return {unpacked(key): unpacked(value) for key, value in data["dict"]}
    for name, kind in CONTAINERS.items():
        if name in data:
            return kind(unpacked(one) for one in data[name])
    return _stand_in(str(data["kind"]), bool(data.get("calls")), bool(data.get("values")))


def _packed_tensor(value: Tensor) -> dict:
    with torch._C.DisableTorchFunctionSubclass():  # a learner's own kind of tensor counts by its numbers
        dtype, shape = str(value.dtype).removeprefix("torch."), list(value.shape)
        if dtype not in DTYPES:
            return {"kind": "Tensor"}
        flat = value.detach().cpu().contiguous().flatten()
        raw = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    return {"tensor": base64.b64encode(raw).decode(), "dtype": dtype, "shape": shape}


def _tensor(text: str, dtype: str, shape: list[int]) -> Tensor:
    if dtype not in DTYPES:
        raise ValueError(f"a tensor of dtype {dtype!r} came")
    raw = base64.b64decode(text)
    flat = (
        torch.frombuffer(bytearray(raw), dtype=getattr(torch, dtype))
        if raw
        else torch.empty(0).to(getattr(torch, dtype))
    )
    return flat.reshape([int(n) for n in shape])


def _stand_in(kind: str, calls: bool, values: bool) -> Any:
    """An object of a kind of that name, which can do nothing."""
    parts: dict[str, Any] = {"__call__": lambda self, *_: None} if calls else {}
    if values:
        parts["values"] = None
    return type(kind, (tuple,) if values else (), parts)()


def packed_outcome(outcome: Outcome) -> dict:
    """An outcome as JSON can hold it."""
    error = outcome.error
    return {
        "value": packed(outcome.value),
        "error": error and {
            "name": type(error).__name__, "text": str(error)[:2000], "line": own_line(error),
            "assertion": isinstance(error, AssertionError),
        },
        "changed": outcome.changed, "converted": outcome.converted, "cut": outcome.cut,
        "has_graph": outcome.has_graph, "gradients": [packed(gradient) for gradient in outcome.gradients],
    }  # fmt: skip


def unpacked_outcome(data: dict) -> Outcome:
    """What :func:`packed_outcome` packed. Raises ``ValueError``, ``TypeError`` or ``KeyError`` for anything else."""
    gradients = tuple(unpacked(one) for one in data["gradients"])
    if not all(isinstance(one, Tensor) for one in gradients):
        raise ValueError("a gradient came that is no tensor")
    return Outcome(
        unpacked(data["value"]), data["error"] and _error(data["error"]), str(data["changed"]),
        bool(data["converted"]), str(data["cut"]), bool(data["has_graph"]), gradients,
    )  # fmt: skip


def _error(data: dict) -> Exception:
    """An error of the same name, with its text and the learner's line."""
    text = str(data["text"]) + (f"\n    {data['line']}" if data["line"] else "")
    known = getattr(builtins, str(data["name"]), None)
    plain = isinstance(known, type) and issubclass(known, Exception) and not issubclass(known, UnicodeError)
    bases = (AssertionError,) if data["assertion"] else (Exception,)
    return known(text) if plain else type(str(data["name"]), bases, {})(text)
