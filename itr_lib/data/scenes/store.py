"""Scenes and captions as JSON: read back equal, small, and nothing is ever unpickled.

Captions repeat themselves: the same words, the same descriptions. So each distinct value is written once, as a
node ``[type, child, ...]`` that refers to earlier nodes by ``[number]``; plain strings, numbers and None stand for
themselves. Reading builds each node once, which is what makes it fast.
"""

from __future__ import annotations

import dataclasses
import gc
import json
from collections.abc import Iterable
from pathlib import Path

from itr_lib.data.scenes import Caption, Description, Meaning, Relation, Scene, SceneObject, Word

KINDS = {kind.__name__: kind for kind in (Caption, Description, Meaning, Relation, Scene, SceneObject, Word)}


def save_values(path: Path, values: Iterable) -> None:
    """Write a list of tuples, frozen dataclasses of a scene, strings, numbers and None."""
    nodes, number_of = [], {}
    roots = [_add(value, nodes, number_of) for value in values]
    path.write_text(json.dumps({"nodes": nodes, "values": roots}, separators=(",", ":")))


def load_values(path: Path) -> list:
    """What :func:`save_values` wrote."""
    collecting = gc.isenabled()
    gc.disable()  # nothing here is garbage, and looking for it among so many small objects doubles the time
    try:
        content = json.loads(path.read_text())
        built = []
        for kind, *children in content["nodes"]:
            parts = [built[child[0]] if type(child) is list else child for child in children]
            built.append(tuple(parts) if kind == "tuple" else KINDS[kind](*parts))
        return [built[value[0]] if type(value) is list else value for value in content["values"]]
    finally:
        if collecting:
            gc.enable()


def _add(value, nodes: list, number_of: dict):
    """The JSON form of a value: itself, or a reference to its node."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    kind = type(value).__name__
    if kind == "tuple":
        parts = value
    elif kind in KINDS:
        parts = [getattr(value, field.name) for field in dataclasses.fields(value)]
    else:
        raise TypeError(f"cannot store a {kind} ({value!r}): expected a scene, a caption or a part of one")
    node = [kind, *(_add(part, nodes, number_of) for part in parts)]
    key = json.dumps(node)  # not the value itself: 1 == 1.0 == True
    if key not in number_of:
        number_of[key] = len(nodes)
        nodes.append(node)
    return [number_of[key]]
