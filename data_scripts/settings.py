"""The settings of a run: presets, which are files that one reads, and changes to them, which are checked.

A preset is a TOML file with four tables. ``[model]`` has the model's name and fields of its configuration, ``[text]``
those of :class:`itr_lib.encoders.text.TextConfig`; ``[objective]`` has a name of ``OBJECTIVES`` and that loss's fields,
``[training]`` those of :class:`itr_lib.training.TrainConfig`. What is left out has its default. ``[for.coco.training]``
and the like change a table for one data set. TOML has no None: ``"none"`` stands for it. The ``precision`` may be
``"auto"``, the faster one of the machine; a run's own settings say which that was.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from dataclasses import MISSING, fields, replace
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from itr_lib.encoders.pretrained import faster_precision
from itr_lib.encoders.text import TextConfig
from itr_lib.lessons.recipes import Recipe
from itr_lib.lessons.recorded import FROM_DATA
from itr_lib.models import MODELS
from itr_lib.objectives import InfoNCEObjective, TripletObjective, TwoLevelObjective, UnifiedObjective
from itr_lib.training import TrainConfig

PRESETS = Path(__file__).with_name("presets")
TABLES = ("model", "text", "objective", "training")
OBJECTIVES = {
    "triplet": TripletObjective,
    "info_nce": InfoNCEObjective,
    "unified": UnifiedObjective,
    "two_level": TwoLevelObjective,
}
Tables = dict[str, dict[str, Any]]


def read_preset(model: str, preset: str, data: str) -> Tables:
    """The tables of a preset as they are for a data set. Raises ``ValueError`` for a file that is none.

    Args:
        model: its name; the file must be of this model.
        preset: ``"small"``, ``"paper"``, or a file that ends in ``.toml``, such as a run's ``settings.toml``.
        data: the data set's name.
    """
    path = Path(preset).expanduser() if preset.endswith(".toml") else PRESETS / f"{model}.{preset}.toml"
    if not path.is_file():
        known = sorted(file.stem.split(".")[1] for file in PRESETS.glob(f"{model}.*.toml"))
        raise ValueError(f"preset is {preset!r}, expected one of {known} for {model}, or a file that ends in .toml")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        tables = {table: {**content[table]} for table in TABLES}
        name, changes = tables["model"]["name"], content.get("for", {}).get(data, {})
        for table, changed in changes.items():
            tables[table].update(changed)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is no preset with the tables {', '.join(TABLES)}: {error!r}") from error
    if name != model:
        raise ValueError(f"{path} is a preset of {name!r}, and the model is {model!r}")
    return tables


def changed(tables: Tables, setting: str) -> Tables:
    """The tables after a change such as ``"training.batch_size=64"``; another ``objective.name`` brings its defaults.

    Raises ``ValueError`` for what is no setting, with the nearest name, and for a value of another type.
    """
    where, equals, text = setting.partition("=")
    table, dot, key = where.strip().partition(".")
    if not (equals and dot and key):
        raise ValueError(f"{setting!r} changes nothing: expected TABLE.NAME=VALUE, such as training.batch_size=64")
    if table not in TABLES:
        raise ValueError(f"{where} is no setting: {table!r} is no table{_nearest(table, TABLES)}")
    if where == "objective.name":
        return tables | {"objective": {"name": text}}
    hint = _hint(table, key, _class_of(table, tables))
    return tables | {table: tables[table] | {key: text if str in _types(hint) else _literal(text)}}


def recipe_of(tables: Tables, device: str = "cpu") -> Recipe:
    """What the tables say as configurations, the faster precision of ``device`` where they leave it to us (``"auto"``).

    Raises ``ValueError`` that names a setting which will not do.
    """
    if tables["training"].get("precision") == "auto":
        tables = tables | {"training": tables["training"] | {"precision": faster_precision(device)}}
    text, model, objective, training = (_made(table, tables) for table in ("text", "model", "objective", "training"))
    if isinstance(objective, TwoLevelObjective) and tables["model"]["name"] != "tgdt":
        raise ValueError("objective.name is 'two_level', which needs a model with two readings: expected --model tgdt")
    return Recipe(replace(model, text=text), objective, training)


def tables_of(recipe: Recipe) -> Tables:
    """All settings of a recipe, defaults too, but for what the data decide."""
    names = {
        "model": next(name for name, (_, small, _) in MODELS.items() if type(small) is type(recipe.model)),
        "objective": next(name for name, kind in OBJECTIVES.items() if kind is type(recipe.objective)),
    }
    parts = {
        "model": recipe.model,
        "text": recipe.model.text,
        "objective": recipe.objective,
        "training": recipe.training,
    }
    return {
        table: ({"name": names[table]} if table in names else {})
        | {key: "none" if (value := getattr(part, key)) is None else value for key in _settable(type(part))}
        for table, part in parts.items()
    }


def as_toml(tables: Tables) -> str:
    """The tables as :func:`read_preset` reads them."""
    return "\n".join(
        f"[{table}]\n" + "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())
        for table, values in tables.items()
    )


def differences(there: Tables, here: Tables) -> list[str]:
    """Each setting that is not the same in both, in words."""
    flat = [
        {f"{t}.{key}": value for t, values in tables.items() for key, value in values.items()}
        for tables in (there, here)
    ]
    return [
        f"{name} is {flat[0].get(name)!r} there and {flat[1].get(name)!r} here"
        for name in flat[0] | flat[1]
        if flat[0].get(name) != flat[1].get(name)
    ]


def _class_of(table: str, tables: Tables) -> type:
    if table == "model":
        return type(MODELS[tables["model"]["name"]][1])
    if table == "objective":
        name = tables["objective"].get("name")
        if name not in OBJECTIVES:
            raise ValueError(f"objective.name is {name!r}, expected one of {', '.join(OBJECTIVES)}")
        return OBJECTIVES[name]
    return {"text": TextConfig, "training": TrainConfig}[table]


def _made(table: str, tables: Tables) -> Any:
    """The configuration of one table, each of its values checked."""
    kind = _class_of(table, tables)
    own = {key: value for key, value in tables[table].items() if key != "name"}
    made = {key: _typed(f"{table}.{key}", value, _hint(table, key, kind)) for key, value in own.items()}
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if missing := [f"{table}.{key}" for key in needed if key not in made]:
        raise ValueError(f"{', '.join(missing)} must be set")
    return kind(**made)


def _settable(kind: type) -> list[str]:
    return [field.name for field in fields(kind) if field.name not in (*FROM_DATA, "text")]


def _hint(table: str, key: str, kind: type) -> Any:
    known = _settable(kind)
    if key not in known:
        raise ValueError(f"{table}.{key} is no setting of {kind.__name__}{_nearest(key, known)}")
    return get_type_hints(kind)[key]


def _nearest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f": did you mean {close[0]!r}?" if close else f": expected one of {', '.join(known)}"


def _types(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) or (hint,)


def _literal(text: str) -> Any:
    """A number or a bool as TOML writes it; all else is the text itself, which :func:`_typed` judges."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text


def _typed(where: str, value: Any, hint: Any) -> Any:
    allowed = _types(hint)
    if value == "none" and NoneType in allowed:
        return None
    if type(value) is int and float in allowed and int not in allowed:
        return float(value)
    if type(value) in allowed:
        return value
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", NoneType: "none"}
    raise ValueError(f"{where} is {value!r}, expected {' or '.join(words[one] for one in allowed if one in words)}")
