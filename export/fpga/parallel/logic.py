"""Logic that shares what is the same: full adders with inverters pulled out, and registers between levels."""

from __future__ import annotations

from collections.abc import Sequence

Literal = int
"""Twice the number of a node, plus 1 where it is inverted."""

FALSE, TRUE = 0, 1


class Logic:
    """Builds the body of a module from its inputs `x[0]`, `x[1]`, ...; the same function is made once.

    Sum and carry of a full adder are functions of three bits that an inverter at an input changes by inverters alone,
    at most: a ^ b ^ c is then inverted, and so is the majority if all three were. Neurons that differ in weights, which
    are inverters, thus share the sums of their first levels whole, and a quarter of the carries.

    Attributes:
        lines: declarations and assignments.
        updates: assignments at the clock edge.
        gates: functions of two and three bits that were made.
        registers: that were made.

    """

    def __init__(self, inputs: int) -> None:
        self.lines: list[str] = []
        self.updates: list[str] = []
        self.gates = 0
        self.registers = 0
        self._names = ["1'b0", *(f"x[{i}]" for i in range(inputs))]
        self._made: dict[tuple[str, tuple[Literal, ...]], Literal] = {}

    def input(self, index: int, inverted: bool = False) -> Literal:
        """An input bit."""
        return 2 * (index + 1) + int(inverted)

    def text(self, literal: Literal) -> str:
        """The literal in Verilog."""
        if literal < 2:
            return f"1'b{literal}"
        return ("~" if literal & 1 else "") + self._names[literal >> 1]

    def register(self, literal: Literal) -> Literal:
        """The literal a cycle later; a constant stays one."""
        if literal < 2:
            return literal
        plain = literal & ~1
        found = self._made.get(("reg", (plain,)))
        if found is None:
            found = self._node("r", "reg", (plain,))
            self.lines.append(f"  reg {self._names[-1]};")
            self.updates.append(f"    {self._names[-1]} <= {self.text(plain)};")
            self.registers += 1
        return found | (literal & 1)

    def xor(self, *literals: Literal) -> Literal:
        """The parity of two or three bits."""
        inverted = sum(literal & 1 for literal in literals) & 1
        plain = sorted(literal & ~1 for literal in literals if literal >= 2)
        if len(plain) < 2:
            return (plain[0] if plain else FALSE) ^ inverted
        return self._gate("^", tuple(plain)) ^ inverted

    def majority(self, a: Literal, b: Literal, c: Literal) -> Literal:
        """Whether two or three of them are high."""
        constants = [one for one in (a, b, c) if one < 2]
        rest = sorted(one for one in (a, b, c) if one >= 2)
        if len(constants) == 2:
            return rest[0] if constants[0] != constants[1] else constants[0]
        if len(constants) == 1:
            # maj(a, b, 0) = a & b, and a | b = ~(~a & ~b)
            high = constants[0]
            return self._gate("&", tuple(sorted(one ^ high for one in rest))) ^ high
        if not rest:
            return int(sum(constants) >= 2)
        flip = int(sum(one & 1 for one in rest) >= 2)
        return self._gate("maj", tuple(sorted(one ^ flip for one in rest))) ^ flip

    def vector(self, literals: Sequence[Literal]) -> str:
        """The literals as a Verilog concatenation, the first in the lowest bit."""
        return "{" + ", ".join(self.text(one) for one in reversed(literals)) + "}"

    def _gate(self, kind: str, inputs: tuple[Literal, ...]) -> Literal:
        key = (kind, inputs)
        if key not in self._made:
            words = [self.text(one) for one in inputs]
            found = self._node("n", *key)
            if kind == "maj":
                a, b, c = words
                value = f"({a} & {b}) | ({a} & {c}) | ({b} & {c})"
            else:
                value = f" {kind} ".join(words)
            self.lines.append(f"  wire {self._names[-1]} = {value};")
            self.gates += 1
            return found
        return self._made[key]

    def _node(self, prefix: str, kind: str, inputs: tuple[Literal, ...]) -> Literal:
        number = len(self._names)
        self._names.append(f"{prefix}{number}")
        self._made[kind, inputs] = 2 * number
        return 2 * number


def compress(logic: Logic, columns: list[list[list[Literal]]], levels: int) -> tuple[list[list[list[Literal]]], int]:
    """Full adders until no column of any tree has more than two bits, registers every `levels` levels and at the end.

    Args:
        logic: where they are made.
        columns: of each tree, of each power of two, the bits to add.
        levels: of full adders between registers.

    Returns:
        The trees with at most two bits a column, and how many cycles later.

    """
    depth = latency = 0
    while any(len(column) > 2 for tree in columns for column in tree):
        columns = [_level(logic, tree) for tree in columns]
        depth += 1
        if depth % levels == 0:
            columns, latency = _registered(logic, columns), latency + 1
    if depth % levels or not depth:
        columns, latency = _registered(logic, columns), latency + 1
    return columns, latency


def _level(logic: Logic, tree: list[list[Literal]]) -> list[list[Literal]]:
    """One level: each three bits of a column become one in it and one in the next."""
    found: list[list[Literal]] = [[] for _ in range(len(tree) + 1)]
    for place, column in enumerate(tree):
        if len(column) <= 2:
            found[place] += column
            continue
        whole = len(column) // 3 * 3
        for first in range(0, whole, 3):
            three = column[first : first + 3]
            found[place].append(logic.xor(*three))
            found[place + 1].append(logic.majority(three[0], three[1], three[2]))
        found[place] += column[whole:]
    return found if found[-1] else found[:-1]


def _registered(logic: Logic, columns: list[list[list[Literal]]]) -> list[list[list[Literal]]]:
    return [[[logic.register(one) for one in column] for column in tree] for tree in columns]
