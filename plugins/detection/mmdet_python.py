"""The part of Python that gives plain data, evaluated without running anything.

Everything is a walk over the syntax tree: there is no `eval`, no attribute of an object is read (`a.b` reads the key b
of the mapping a), and what is called is one of a few functions of this file.
"""

from __future__ import annotations

import ast
import copy
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_MOST = 100_000
"""Elements of a sequence or steps of a comprehension: a config that asks for more is refused."""


class NotPlainError(Exception):
    """The code does more than give plain data.

    Attributes:
        line: where.

    """

    def __init__(self, node: ast.AST, what: str) -> None:
        super().__init__(what)
        self.line = getattr(node, "lineno", 0)


def values_of(tree: ast.Module, bases: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The names that a module gives to plain data, and `bases`, which `_base_` stands for, as the module leaves them.

    Raises:
        NotPlainError: it does anything else.

    """
    names: dict[str, Any] = {"_base_": copy.deepcopy(dict(bases))}
    for statement in tree.body:
        _run(statement, names)
    return names, names.pop("_base_")


def _run(statement: ast.stmt, names: dict[str, Any]) -> None:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        _change(statement.value, names)
    elif isinstance(statement, ast.Assign):
        for target in statement.targets:
            if ast.unparse(target) != "_base_":
                _assign(target, _value(statement.value, names), names)
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        _assign(statement.target, _value(statement.value, names), names)
    elif isinstance(statement, ast.AugAssign):
        left = _value(_loaded(statement.target), names)
        _assign(statement.target, _binary(statement, statement.op, left, _value(statement.value, names)), names)
    elif isinstance(statement, ast.Delete):
        for target in statement.targets:
            _delete(target, names)
    elif not isinstance(statement, ast.Pass):
        raise NotPlainError(statement, f"'{_shown(statement)}'")


def _delete(target: ast.expr, names: dict[str, Any]) -> None:
    holder: Any = names
    key: Any = target.id if isinstance(target, ast.Name) and target.id != "_base_" else None
    if isinstance(target, (ast.Attribute, ast.Subscript)):
        holder = _value(target.value, names)
        key = target.attr if isinstance(target, ast.Attribute) else _value(target.slice, names)
    if key is None or not isinstance(holder, dict) or key not in holder:
        raise NotPlainError(target, f"'del {_shown(target)}'")
    del holder[key]


def _loaded(target: ast.expr) -> ast.expr:
    """A target of an assignment as an expression."""
    return ast.parse(ast.unparse(target), mode="eval").body


def _assign(target: ast.expr, value: Any, names: dict[str, Any]) -> None:
    if isinstance(target, ast.Name):
        names[target.id] = value
    elif isinstance(target, (ast.Tuple, ast.List)):
        parts = list(value) if isinstance(value, (list, tuple)) else []
        if len(parts) != len(target.elts):
            raise NotPlainError(target, f"'{_shown(target)}'")
        for one, part in zip(target.elts, parts, strict=True):
            _assign(one, part, names)
    elif isinstance(target, (ast.Attribute, ast.Subscript)):
        holder: Any = _value(target.value, names)
        key: Any = target.attr if isinstance(target, ast.Attribute) else _value(target.slice, names)
        if not isinstance(holder, dict if isinstance(target, ast.Attribute) else (dict, list)):
            raise NotPlainError(target, f"'{_shown(target)}'")
        try:
            holder[key] = value
        except (TypeError, IndexError):
            raise NotPlainError(target, f"'{_shown(target)}'") from None
    else:
        raise NotPlainError(target, f"'{_shown(target)}'")


def _change(call: ast.Call, names: dict[str, Any]) -> None:
    """`mapping.update(...)`, `mapping.pop(...)`, `list.append(...)`: the statements that change a value."""
    if not isinstance(call.func, ast.Attribute):
        raise NotPlainError(call, f"'{_shown(call)}'")
    holder, method = _value(call.func.value, names), call.func.attr
    args = [_value(a, names) for a in call.args]
    keywords = _keywords(call, names)
    try:
        if isinstance(holder, dict) and method == "update" and len(args) <= 1:
            holder.update(*[dict(a) for a in args], **keywords)
        elif isinstance(holder, dict) and method == "pop" and args and not keywords:
            holder.pop(*args)
        elif isinstance(holder, list) and method in ("append", "extend", "pop") and not keywords:
            getattr(list, method)(holder, *args)
        else:
            raise NotPlainError(call, f"'{_shown(call)}'")
    except (TypeError, KeyError, IndexError, ValueError):
        raise NotPlainError(call, f"'{_shown(call)}'") from None


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    found = _VALUES.get(type(node))
    if found is None:
        raise NotPlainError(node, f"'{_shown(node)}'")
    try:
        return found(node, names)
    except (TypeError, KeyError, IndexError, ValueError, ArithmeticError, RecursionError) as problem:
        raise NotPlainError(node, f"'{_shown(node)}' ({type(problem).__name__}: {problem})") from None


def _constant(node: Any, names: Mapping[str, Any]) -> Any:
    if not isinstance(node.value, (str, int, float, bool, type(None), type(...))) or node.value is ...:
        raise NotPlainError(node, f"'{_shown(node)}'")
    return node.value


def _name(node: Any, names: Mapping[str, Any]) -> Any:
    return names[node.id]


def _attribute(node: Any, names: Mapping[str, Any]) -> Any:
    holder = _value(node.value, names)
    if not isinstance(holder, dict):
        raise NotPlainError(node, f"'{_shown(node)}'")
    return holder[node.attr]


def _subscript(node: Any, names: Mapping[str, Any]) -> Any:
    holder = _value(node.value, names)
    if not isinstance(holder, (dict, list, tuple, str)):
        raise NotPlainError(node, f"'{_shown(node)}'")
    if isinstance(node.slice, ast.Slice):
        ends = [None if e is None else _value(e, names) for e in (node.slice.lower, node.slice.upper, node.slice.step)]
        if isinstance(holder, dict):
            raise NotPlainError(node, f"'{_shown(node)}'")
        return holder[slice(*ends)]
    return holder[_value(node.slice, names)]


def _elements(nodes: list[Any], names: Mapping[str, Any]) -> list[Any]:
    found: list[Any] = []
    for node in nodes:
        if isinstance(node, ast.Starred):
            found += _sequence(node.value, _value(node.value, names))
        else:
            found.append(_value(node, names))
    return found


def _mapping(node: Any, names: Mapping[str, Any]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None:
            found |= dict(_value(value, names))
        else:
            found[_value(key, names)] = _value(value, names)
    return found


def _keywords(call: ast.Call, names: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for keyword in call.keywords:
        value = _value(keyword.value, names)
        if keyword.arg is None:
            found |= dict(value)
        else:
            found[keyword.arg] = value
    return found


def _call(node: Any, names: Mapping[str, Any]) -> Any:
    kind = node.func.id if isinstance(node.func, ast.Name) else ""
    function = None if kind in names else _FUNCTIONS.get(kind)
    if function is None:
        raise NotPlainError(node, f"'{_shown(node)}'")
    return function(*_elements(node.args, names), **_keywords(node, names))


def _dict(*args: Any, **keywords: Any) -> dict[Any, Any]:
    return dict(*[dict(a) for a in args], **keywords)


def _range(*bounds: int) -> list[int]:
    steps = range(*bounds)
    if len(steps) > _MOST:
        raise ValueError(f"more than {_MOST} numbers")
    return list(steps)


def _plain_list(values: Any = ()) -> list[Any]:
    if not isinstance(values, (list, tuple, dict, str)):
        raise TypeError("no sequence")
    return list(values)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "dict": _dict,
    "range": _range,
    "list": _plain_list,
    "tuple": lambda values=(): tuple(_plain_list(values)),
    "len": len,
    "enumerate": lambda values: list(enumerate(_plain_list(values))),
    "int": lambda value: int(value) if isinstance(value, (int, float)) else int(value[:20]),
    "float": float,
    "max": max,
    "min": min,
}

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def _binary(node: ast.AST, kind: ast.operator, left: Any, right: Any) -> Any:
    function = _OPERATORS.get(type(kind))
    numbers = all(isinstance(v, (int, float)) for v in (left, right))
    joins = type(kind) is ast.Add and type(left) is type(right) and isinstance(left, (str, list, tuple))
    repeats = type(kind) is ast.Mult and isinstance(left, (list, tuple, str)) and isinstance(right, int)
    if function is None or not (numbers or joins or repeats):
        raise NotPlainError(node, f"'{_shown(node)}'")
    if type(kind) is ast.Pow and (abs(left) > 1e6 or abs(right) > 64):
        raise NotPlainError(node, f"'{_shown(node)}'")
    if (joins and len(left) + len(right) > _MOST) or (repeats and len(left) * right > _MOST):
        raise NotPlainError(node, f"'{_shown(node)}'")
    result = function(left, right)
    if isinstance(result, int) and abs(result) > 10**30:
        raise NotPlainError(node, f"'{_shown(node)}'")
    return result


def _binary_node(node: Any, names: Mapping[str, Any]) -> Any:
    return _binary(node, node.op, _value(node.left, names), _value(node.right, names))


def _unary(node: Any, names: Mapping[str, Any]) -> Any:
    value = _value(node.operand, names)
    if isinstance(node.op, ast.Not):
        return not value
    if isinstance(node.op, (ast.USub, ast.UAdd)) and isinstance(value, (int, float)):
        return -value if isinstance(node.op, ast.USub) else value
    raise NotPlainError(node, f"'{_shown(node)}'")


def _text(node: Any, names: Mapping[str, Any]) -> str:
    parts = []
    for part in node.values:
        if isinstance(part, ast.Constant):
            parts.append(str(part.value))
            continue
        value = _value(part.value, names)
        if part.format_spec is not None or part.conversion != -1 or not isinstance(value, (str, int, float)):
            raise NotPlainError(node, f"'{_shown(node)}'")
        parts.append(str(value))
    return "".join(parts)


def _choice(node: Any, names: Mapping[str, Any]) -> Any:
    return _value(node.body if _value(node.test, names) else node.orelse, names)


def _sequence(node: ast.AST, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple, dict, str)) or len(value) > _MOST:
        raise NotPlainError(node, f"'{_shown(node)}'")
    return list(value)


def _scopes(node: Any, names: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The names of every round of a comprehension."""
    rounds: list[dict[str, Any]] = [dict(names)]
    for part in node.generators:
        following = []
        for scope in rounds:
            for value in _sequence(part.iter, _value(part.iter, scope)):
                inner = dict(scope)
                _assign(part.target, value, inner)
                if all(_value(condition, inner) for condition in part.ifs):
                    following.append(inner)
                if len(following) > _MOST:
                    raise NotPlainError(node, f"'{_shown(node)}'")
        rounds = following
    yield from rounds


_VALUES: dict[type[ast.expr], Callable[[Any, Mapping[str, Any]], Any]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.Attribute: _attribute,
    ast.Subscript: _subscript,
    ast.List: lambda node, names: _elements(node.elts, names),
    ast.Tuple: lambda node, names: tuple(_elements(node.elts, names)),
    ast.Dict: _mapping,
    ast.Call: _call,
    ast.BinOp: _binary_node,
    ast.UnaryOp: _unary,
    ast.JoinedStr: _text,
    ast.IfExp: _choice,
    ast.ListComp: lambda node, names: [_value(node.elt, scope) for scope in _scopes(node, names)],
    ast.DictComp: lambda node, names: {
        _value(node.key, scope): _value(node.value, scope) for scope in _scopes(node, names)
    },
}


def _shown(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 60 else text[:57] + "..."
