"""What a part declares: the settings in its signature, read from its source, so that nothing is imported.

A setting is a parameter of a class or function, or a field of a dataclass, with ``Doc`` in its annotation:
``value: Annotated[float, Gt(0), Doc("largest global gradient norm")] = 1.0``. Limits are those of
``annotated_types``. Of a class without any ``Doc``, such as torch's, only the names are known.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_TYPES = {"bool": bool, "int": int, "float": float, "str": str, "list": list, "dict": dict}
_LIMITS = {"Gt": "gt", "Ge": "ge", "Lt": "lt", "Le": "le", "Len": "length"}


@dataclass(frozen=True)
class Hint:
    """A type as an annotation says it: ``kind`` is None where it is not understood, and anything goes.

    ``limits`` are gt, ge, lt, le, or the (fewest, most) of a list's ``length``; ``element`` is of a list;
    ``nested`` the dataclass, as package.module.Class, whose settings these are.
    """

    kind: type | None = None
    optional: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    element: Hint | None = None
    nested: str | None = None


@dataclass(frozen=True)
class Setting:
    """One setting of a part. ``needed`` where neither the class nor who builds it gives a value."""

    name: str
    hint: Hint
    doc: str = ""
    needed: bool = False
    default: Any = None
    has_default: bool = False


def declared(target: str) -> dict[str, Setting] | None:
    """The settings of ``package.module.Name``; None where its source is not found or it takes any keyword."""
    home, _, name = target.rpartition(".")
    found = _found(_module(home), name) if home else None
    return _declared(*found) if found and isinstance(found[1], (ast.ClassDef, ast.FunctionDef)) else None


@dataclass(frozen=True, eq=False)
class _Module:
    """What the names at the top of a module stand for: a class, a function, a value, or an imported name."""

    name: str
    names: dict[str, ast.ClassDef | ast.FunctionDef | ast.expr | str]


@cache
def _declared(module: _Module, node: ast.ClassDef | ast.FunctionDef) -> dict[str, Setting] | None:

    if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(one) for one in node.decorator_list):
        listed: list[Setting] | None = list(_fields(module, node).values())
    else:
        listed = _parameters(module, node)
    if listed is None:
        return None
    documented = [setting for setting in listed if setting.doc]
    return {setting.name: setting for setting in documented or (replace(one, needed=False) for one in listed)}


# --- source ----------------------------------------------------------------------------------


def _module(name: str) -> _Module | None:
    top, *below = name.split(".")
    try:
        spec = find_spec(top)  # of a top-level name: imports nothing
    except ValueError:
        spec = None
    if spec is None:
        return None
    files = [] if below else [Path(str(spec.origin))]
    for root in spec.submodule_search_locations or []:
        path = Path(root, *below)
        files += [path / "__init__.py", path.with_suffix(".py")]
    found = next((file for file in files if file.suffix == ".py" and file.is_file()), None)
    return _parsed(name, found, found.stat().st_mtime_ns) if found is not None else None


@cache
def _parsed(name: str, path: Path, changed: int) -> _Module:
    names: dict[str, Any] = {}
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            names[node.name] = node
        elif isinstance(node, ast.Assign):
            names |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return _Module(name, names)


def _found(module: _Module | None, name: str) -> tuple[_Module, Any] | None:
    """A class, function or value, in the module where it is defined, through the imports that lead there."""
    for _ in range(8):
        found = module.names.get(name) if module else None
        if module is None or found is None:
            return None
        if not isinstance(found, str):
            return module, found
        home, _, name = found.rpartition(".")
        module = _module(home)
    return None


def _bases(module: _Module, node: ast.ClassDef) -> Iterator[tuple[_Module, ast.ClassDef]]:
    for base in node.bases:
        found = _found(module, base.id) if isinstance(base, ast.Name) else None
        if found is not None and isinstance(found[1], ast.ClassDef):
            yield found


# --- signatures ------------------------------------------------------------------------------


def _fields(module: _Module, node: ast.ClassDef) -> dict[str, Setting]:
    """The fields of a dataclass, those of its bases first."""
    found: dict[str, Setting] = {}
    for base in _bases(module, node):
        found |= _fields(*base)
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            found[line.target.id] = _setting(module, line.target.id, line.annotation, line.value)
    return found


def _parameters(module: _Module, node: ast.ClassDef | ast.FunctionDef) -> list[Setting] | None:
    """The parameters of a function or of ``__init__``; None where they are not all found.

    A class that hands ``**settings`` on has those of its base, too.
    """
    handed: list[Setting] | None = None
    if isinstance(node, ast.ClassDef):
        handed = next((_parameters(*base) for base in _bases(module, node)), None)
        made = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
        if not made:
            return handed
        node = made[0]
    names = node.args
    if names.kwarg is not None and handed is None:
        return None
    placed = [*names.posonlyargs, *names.args]
    defaults = [*[None] * (len(placed) - len(names.defaults)), *names.defaults, *names.kw_defaults]
    found = {setting.name: setting for setting in handed or []} if names.kwarg is not None else {}
    for one, default in zip([*placed, *names.kwonlyargs], defaults, strict=True):
        if one.arg != "self":
            found[one.arg] = _setting(module, one.arg, one.annotation, default)
    return list(found.values())


def _setting(module: _Module, name: str, annotation: ast.expr | None, default: ast.expr | None) -> Setting:
    hint, doc = _read(module, annotation)
    value = ... if default is None else _constant(default)
    known = value is not ...
    return Setting(name, hint, doc, default is None, value if known else None, known)


def _read(module: _Module, node: ast.expr | None) -> tuple[Hint, str]:
    """Type and meaning that an annotation gives."""
    if isinstance(node, ast.Name) and node.id in _TYPES:
        return Hint(_TYPES[node.id]), ""
    if isinstance(node, ast.Name):
        home, found = _found(module, node.id) or (module, None)
        if isinstance(found, ast.ClassDef):
            return Hint(dict, nested=f"{home.name}.{found.name}"), ""
        return _read(home, found) if isinstance(found, ast.expr) else (Hint(), "")
    if isinstance(node, ast.BinOp) and isinstance(node.right, ast.Constant) and node.right.value is None:
        hint, doc = _read(module, node.left)
        return replace(hint, optional=True), doc
    if not (isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)):
        return Hint(), ""
    inside = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if node.value.id == "Annotated":
        return _annotated(module, *inside)
    if node.value.id == "Literal":
        return Hint(str, choices=tuple(str(_constant(one)) for one in inside)), ""
    if node.value.id in ("list", "Sequence"):
        return Hint(list, element=_read(module, node.slice)[0]), ""
    return Hint(_TYPES.get(node.value.id)), ""


def _annotated(module: _Module, kind: ast.expr, *said: ast.expr) -> tuple[Hint, str]:
    hint, doc = _read(module, kind)
    for call in said:
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            arguments = [_constant(argument) for argument in call.args]
            if call.func.id == "Doc":
                doc = str(arguments[0])
            elif limit := _LIMITS.get(call.func.id):
                given = tuple(arguments) if limit == "length" else arguments[0]
                hint = replace(hint, limits={**hint.limits, limit: given})
    return hint, doc


def _constant(node: ast.expr) -> Any:
    """The value of an expression of constants, such as ``2**63 - 1``; ... for any other."""
    try:
        return eval(compile(ast.Expression(node), "", "eval"), {"__builtins__": {}})
    except Exception:
        return ...
