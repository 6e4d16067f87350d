"""A learner's right answers, kept as plain source in one file beside the notebooks, so that later lessons can use them.

The file is ``my_answers.py`` in the folder of the notebook, or what the environment variable ``ITR_ANSWERS`` names. An
answer is a section of it: a line ``# %% slug``, the imports it needs, functions of the learner's that it calls, and
itself as the last definition. The file can be read, edited, and put into an empty notebook again.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import symtable
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock

from itr_lib.checks.wrong import own_line
from itr_lib.desk.kept import lock, path, sections
from itr_lib.files import write_whole

chosen: dict[str, tuple[str, Callable]] = {}  # slug -> "yours", "library" or "too slow", and the function that goes on


class NotKept(ValueError):
    """The source of an answer cannot stand alone; the message says why."""


def go_on_with(slug: str, whose: str, function: Callable) -> Callable:
    """Note, and return, the function that this notebook goes on with."""
    chosen[slug] = (whose, function)
    return function


def keep(slug: str, answer: Callable) -> str:
    """Keep an answer's source; returns "" or a sentence that says why it was not kept."""
    try:
        source = standalone(answer)
        target = path()
        with lock(target):
            kept = sections(target.read_text(encoding="utf-8")) if target.exists() else {}
            _write(target, kept | {slug: source})
    except (NotKept, OSError, filelock.Timeout) as error:
        return f" (Not kept for later lessons: {error})"
    return ""


def _write(target: Path, kept: dict[str, str]) -> None:
    head = "# Your answers, kept by check(): plain Python, one section an exercise. Yours to read and to edit.\n"
    write_whole(target, head + "".join(f"\n# %% {slug}\n{source}\n" for slug, source in kept.items()))


def load(slug: str) -> Callable | None:
    """The kept answer to an exercise; None where there is none.

    Raises ``ValueError`` where its section does not run.
    """
    target = path()
    source = sections(target.read_text(encoding="utf-8")).get(slug) if target.exists() else None
    if source is None:
        return None
    module = types.ModuleType(f"my_answers.{slug}")
    name = f"{target.name}:{slug}"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    try:
        last = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef | ast.ClassDef)][-1]
        exec(compile(source, name, "exec"), module.__dict__)  # the learner's own file
    except Exception as error:
        raise ValueError(
            f"the section {slug} of {target.name} does not run: {type(error).__name__}: {error}"
        ) from error
    return module.__dict__[last.name]


def whose_code_ran() -> str:
    """What of this notebook ran on the learner's functions, in a sentence or two; "" where nothing was checked."""
    words = {
        "yours": "your own code",
        "too slow": "the library's, since yours is right but slow",
        "library": "the library's",
    }
    told = [
        f"{', '.join(slugs)} on {word}"
        for whose, word in words.items()
        if (slugs := [slug for slug, (by, _) in chosen.items() if by == whose])
    ]
    return f"Ran {'; '.join(told)}." if told else ""


def begun(answer: object, parts: int) -> bool:
    """Whether a function that still raises ``NotImplementedError`` holds something of its own."""
    try:
        node, _ = _definition(answer)
    except NotKept:
        return False
    functions = [n for n in ast.walk(node) if isinstance(n, ast.FunctionDef)]
    return sum(map(_only_raises, functions)) < parts


def _only_raises(function: ast.FunctionDef) -> bool:
    """Whether nothing stands before the ``raise`` but the docstring."""
    body = function.body[bool(ast.get_docstring(function)) :]
    return bool(body) and isinstance(body[0], ast.Raise)


def still_open(error: NotImplementedError) -> str:
    """What a learner is told whose answer is written in part."""
    where = own_line(error)
    return "partly written: it still comes to a line that raises NotImplementedError" + (
        f"\n    {where}" if where else ""
    )


def standalone(answer: Callable) -> str:
    """Source that defines ``answer`` by itself: imports, the functions and numbers it uses, and last itself.

    Raises :class:`NotKept` where the source is not known or uses a variable that is not a function, module or number.
    """
    found: dict[str, str] = {}
    _collect(answer, found)
    imports = sorted(line for line in found.values() if line.startswith(("import ", "from ")))
    rest = [text for text in found.values() if not text.startswith(("import ", "from "))]
    head = "\n".join(imports)
    return "\n\n\n".join([head, *rest] if head else rest)


def _collect(answer: Callable, found: dict[str, str]) -> None:
    """Put what ``answer`` needs into ``found``, and ``answer`` after it."""
    node, source = _definition(answer)
    found[node.name] = source  # so that two functions may call each other
    known = vars(sys.modules[answer.__module__]) | getattr(inspect.unwrap(answer), "__globals__", {})
    for name in sorted(_globals(symtable.symtable(source, "answer", "exec"))):
        if name in known and name not in found:  # else a builtin
            found[name] = _as_source(name, known[name], answer, found)
    found[node.name] = found.pop(node.name)


def _globals(table: symtable.SymbolTable) -> set[str]:
    """The names that a piece of source takes from around it."""
    top = table.get_type() == "module"
    names = {s.get_name() for s in table.get_symbols() if s.is_referenced() and (top or s.is_global())}
    return names.union(*map(_globals, table.get_children()))


def _as_source(name: str, value: Any, answer: Callable, found: dict[str, str]) -> str:
    """A line, or a definition, that gives ``name`` its value."""
    renamed = "" if getattr(value, "__name__", name) == name else f" as {name}"
    if isinstance(value, types.ModuleType):
        return f"import {value.__name__}{renamed}"
    home = getattr(value, "__module__", None) if callable(value) else None
    if home == answer.__module__:
        _collect(value, found)
        return found[value.__name__]
    if home and getattr(sys.modules.get(home), getattr(value, "__name__", ""), None) is value:
        return f"from {home} import {value.__name__}{renamed}"
    try:
        if ast.literal_eval(repr(value)) == value:
            return f"{name} = {value!r}"
    except (ValueError, SyntaxError):
        pass
    raise NotKept(f"it uses {name}, a variable of this notebook; pass it in, or make it inside the function")


def _first(node: ast.FunctionDef | ast.ClassDef) -> int:
    """The line on which a definition begins, its decorators included."""
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _definition(answer: object) -> tuple[ast.FunctionDef | ast.ClassDef, str]:
    """The syntax and the source of a function or class, from a cell as well as from a file."""
    function = answer
    if isinstance(answer, type):  # inspect finds no source of a class that was defined in a notebook
        function = next((v for v in vars(answer).values() if isinstance(v, types.FunctionType)), None)
    code = getattr(inspect.unwrap(function), "__code__", None) if function else None  # under @torch.no_grad(), too
    lines = linecache.getlines(code.co_filename) if code else []
    wanted = getattr(answer, "__name__", "")
    try:
        nodes = [n for n in ast.walk(ast.parse("".join(lines))) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    except SyntaxError:
        nodes = []
    nodes = [n for n in nodes if n.name == wanted and _first(n) <= code.co_firstlineno <= (n.end_lineno or n.lineno)]
    if not nodes:
        raise NotKept("its source is not known")
    text = "".join(lines[_first(nodes[0]) - 1 : nodes[0].end_lineno])
    indent = len(text) - len(text.lstrip())
    return nodes[0], "\n".join(line[indent:] for line in text.splitlines())
