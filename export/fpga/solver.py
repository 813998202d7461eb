"""The folding solver: the smallest design that reaches a rate, or the fastest one within a budget."""

from __future__ import annotations

from dataclasses import dataclass

from bnnapps.errors import UsageError
from bnnapps.export.fpga.devices import Device
from bnnapps.export.fpga.estimate import Estimate, estimate, estimate_layer, total
from bnnapps.export.fpga.folding import Fold, check_folding, choices, cycles, head_cycles, interval
from bnnapps.export.fpga.layers import Compute, Conv, Network

USABLE = 0.85
"""The part of a device that a design is planned for: fuller ones are hard to route."""


@dataclass(frozen=True)
class Budget:
    """What a design may take.

    Attributes:
        luts: lookup tables; 0 for no bound.
        brams: block memories; 0 for no bound.

    """

    luts: int
    brams: int


def solve(network: Network, device: Device, fps: float | None, mhz: float, budget: Budget) -> dict[str, Fold]:
    """A folding for each layer.

    Every layer gets the cheapest folding with which it is done within the interval; the interval follows from the rate,
    or is made as short as the budget allows.

    Args:
        network: the hardware layers.
        device: the target.
        fps: inferences a second; `None`: as many as fit.
        mhz: the clock that rates are computed with.
        budget: see `budget_of`.

    Raises:
        UsageError: the rate cannot be reached, or the network does not fit; by how much is said.

    """
    solver = _Solver(network, device, budget)
    if fps is None:
        return solver.fastest(mhz)
    if fps <= 0 or mhz <= 0:
        raise UsageError(f"--fps {fps:g} at --mhz {mhz:g}: both must be above 0")
    target = int(mhz * 1e6 / fps)
    least = solver.least_interval()
    if target < least:
        raise UsageError(
            f"--fps {fps:g} leaves {target} cycles at {mhz:g} MHz, but '{network.name}' takes at least {least} even "
            f"unfolded: at most {mhz * 1e6 / least:.0f} inferences a second"
        )
    folding = solver.within(target)
    solver.must_fit(folding, f"--fps {fps:g} at {mhz:g} MHz")
    return folding


def budget_of(device: Device, luts: int | None, brams: int | None) -> Budget:
    """The budget that a user gives, or what is usable of the device."""
    for name, value in (("--luts", luts), ("--brams", brams)):
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}; expected at least 1")
    return Budget(int(USABLE * device.luts) if luts is None else luts, device.brams if brams is None else brams)


class _Solver:
    def __init__(self, network: Network, device: Device, budget: Budget) -> None:
        self.network, self.device, self.budget = network, device, budget
        self.options = {layer.name: self._options(layer) for layer in network.compute}

    def _options(self, layer: Compute) -> list[tuple[int, float, Fold]]:
        """(cycles, cost, folding), the slowest first, without those that a cheaper one beats."""
        found = []
        for fold in choices(layer):
            took = estimate_layer(layer, fold, self.device)
            found.append((cycles(layer, fold), self._cost(took), fold))
        found.sort(key=lambda one: (one[0], one[1], one[2].pe))
        best: list[tuple[int, float, Fold]] = []
        for one in found:  # the fastest first: keep what is cheaper than all faster ones
            if not best or one[1] < best[-1][1]:
                best.append(one)
        return best[::-1]

    def _cost(self, took: Estimate) -> float:
        """Lookup tables, and block memories at the price of their share of the part."""
        luts = self.budget.luts if self.budget.luts else 50_000
        brams = self.budget.brams if self.budget.brams else 200
        return took.luts / luts + took.brams / brams

    def least_interval(self) -> int:
        fastest = [options[-1][0] for options in self.options.values()]
        return max([*fastest, head_cycles(self.network.head)])

    def within(self, target: int) -> dict[str, Fold]:
        """Of each layer the cheapest folding of at most so many cycles."""
        found = {}
        for layer in self.network.compute:
            fitting = [one for one in self.options[layer.name] if one[0] <= target]
            if not fitting:
                raise UsageError(f"layer '{layer.name}' cannot be done in {target} cycles")
            found[layer.name] = min(fitting, key=lambda one: (one[1], one[0]))[2]
        check_folding(self.network, found)
        first = self.network.compute[0]
        found[first.name] = self._fed(first, found, target)
        return found

    def _fed(self, first: Compute, folding: dict[str, Fold], target: int) -> Fold:
        """The input streams in words of the first layer's SIMD: it must not take longer than the interval."""
        if interval(self.network, folding) <= target:
            return folding[first.name]
        for _, _, fold in sorted(self.options[first.name] + self._all(first), key=lambda one: one[1]):
            if interval(self.network, folding | {first.name: fold}) <= target:
                return fold
        return folding[first.name]

    def _all(self, layer: Compute) -> list[tuple[int, float, Fold]]:
        found = []
        for fold in choices(layer):
            found.append((cycles(layer, fold), self._cost(estimate_layer(layer, fold, self.device)), fold))
        return found

    def fits(self, folding: dict[str, Fold]) -> bool:
        took = total(estimate(self.network, folding, self.device))
        return not (self.budget.luts and took.luts > self.budget.luts) and not (
            self.budget.brams and took.brams > self.budget.brams
        )

    def must_fit(self, folding: dict[str, Fold], what: str) -> None:
        if self.fits(folding):
            return
        took = total(estimate(self.network, folding, self.device))
        over = []
        if self.budget.luts and took.luts > self.budget.luts:
            over.append(f"{took.luts:,} LUTs of {self.budget.luts:,} ({took.luts / self.budget.luts:.1f} times)")
        if self.budget.brams and took.brams > self.budget.brams:
            over.append(
                f"{took.brams} block memories of {self.budget.brams} ({took.brams / self.budget.brams:.1f} times)"
            )
        raise UsageError(
            f"'{self.network.name}' with {what} does not fit {self.device.title}: it is estimated to take "
            f"{' and '.join(over)}; {self._advice(took)}"
        )

    def _advice(self, took: Estimate) -> str:
        largest = max(self.network.compute, key=lambda layer: layer.outputs * layer.terms)
        share = largest.outputs * largest.terms / sum(one.outputs * one.terms for one in self.network.compute)
        kind = "convolution" if isinstance(largest, Conv) else "dense layer"
        return (
            f"lower the rate, take a larger target, or a smaller network (its {kind} '{largest.name}' holds "
            f"{share:.0%} of the weights)"
        )

    def fastest(self, mhz: float) -> dict[str, Fold]:
        """The shortest interval that fits, found among the intervals that layers can have."""
        least = self.least_interval()
        slowest = max(options[0][0] for options in self.options.values())
        candidates = sorted({one[0] for options in self.options.values() for one in options if one[0] >= least})
        candidates = [least, *candidates, slowest]
        best: dict[str, Fold] | None = None
        low, high = 0, len(candidates) - 1
        while low <= high:
            middle = (low + high) // 2
            folding = self.within(candidates[middle])
            if self.fits(folding):
                best, high = folding, middle - 1
            else:
                low = middle + 1
        if best is None:
            self.must_fit(self.within(slowest), "the smallest folding")
            raise AssertionError("the smallest folding fits")
        return best
