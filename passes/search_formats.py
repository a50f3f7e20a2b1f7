"""What `--precision auto` means with calibration data: the least gas with which the answers are still good enough.

Every layer has its own bits of weights, and of the activations it reads. Inputs of the graph keep whole bytes: nothing
is saved by less. The search goes down from one width for all of them:

1. Each of these numbers alone is lowered as far as the goal allows; its gas is predicted at every step.
2. Combinations of what saves gas are tried, the cheapest first, until one reaches the goal together.
3. From there single steps down are taken that save more, and single steps up that cost nothing.
4. A share of the gas (`margin`) is spent on more bits than the samples ask for: other inputs may.
5. What is found so is judged on other samples, which inner ranges and corrections do not come from: of the formats that
   reach the goal there and cost no more than that share above the cheapest, the one with the smallest error is taken.

Everything is decided by predicted gas and by the samples, in a fixed order: the same data gives the same formats.
"""

from __future__ import annotations

import contextlib
import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ml2sc.errors import Ml2scError, RangeError
from ml2sc.ir.graph import Graph

from .choose_precision import TARGET_ERROR, Gas, Say, choose_binary
from .formats import layers_of
from .measure import Measured, together
from .precision import Binary, Integer, Layered, Precision, layered
from .readings import steady
from .tune import Goal, Judge, Tuning, Workbench

_UNIFORM = (8, 12, 16, 24, 32)
"""Widths to go down from: the first of them that reaches the goal."""
_LEAST_BITS = 2
_TRIES = 60
"""Combinations that are tried before the search begins at the uniform width."""
_WORTH = 500
"""A format that saves less than a 500th of the gas is not worth the accuracy it costs."""
MARGIN = 0.03
"""Share of the gas that is spent on accuracy, if nobody says another."""
_SHOWN = 12
"""Formats, the cheapest first, that a choice comes with."""
_USUAL = Integer(8, 8)
"""The format that others are compared with: it is always shown."""
_SHORT = 0.5
"""Seconds of the processor: where a format is priced in less, processes take longer to start than they save."""
_BEST_BOUNDS = (1e-6, 1e-9, 1e-12, 1e-15)
"""Proved bounds of the binary formats that are looked at to say what can be reached."""


@dataclass(frozen=True)
class Candidate:
    """A precision that was looked at.

    Attributes:
        precision: The precision.
        gas: Predicted gas of an inference.
        measured: The answers to all samples; None if it cannot be quantised.
        good: Whether they reach the goal.
        accuracy: Share of the decisions that are the labels, if these are known.
    """

    precision: Precision
    gas: int
    measured: Measured | None
    good: bool
    accuracy: float | None = None


@dataclass(frozen=True)
class Choice:
    """What the search found.

    Attributes:
        precision: The precision.
        tuning: The passes that run before quantisation.
        candidates: The choice and the runners-up, by gas, if the search is `detailed`.
    """

    precision: Precision
    tuning: Tuning
    candidates: tuple[Candidate, ...] = ()


class Descended(NamedTuple):
    """How far one of the numbers goes down while the others stay.

    Attributes:
        knob: Which one.
        steps: Its widths, as `Search` wants them.
        gas: The gas of what was priced on the way.
        good: What reaches the goal, of what was measured on the way.
        tried: What was quantised on the way.
        said: What was said.
    """

    knob: int
    steps: list[tuple[int, int]]
    gas: dict[Precision, int | None]
    good: dict[Precision, bool]
    tried: set[tuple[Precision, bool]]
    said: list[str]


@dataclass(frozen=True)
class Descent:
    """The first step of a search as work for others: every number goes down by itself.

    Attributes:
        search: The search, as far as it has come.
        start: The numbers to go down from.
    """

    search: Search
    start: tuple[int, ...]

    @contextmanager
    def open(self) -> Iterator[Callable[[int], Descended]]:
        """Yield what lowers one number."""
        yield self._descend

    def _descend(self, knob: int) -> Descended:
        said: list[str] = []
        search = replace(self.search, say=said.append, _gas=dict(self.search._gas), _good={}, _tried=set())
        steps = search._steps(self.start, knob)
        return Descended(knob, steps, search._gas, search._good, search._tried, said)


Share = Callable[[Descent, Sequence[int]], Iterable[Descended]]
"""Does such work for some of the numbers, in any order."""


def _nobody(*_: object) -> None:
    """Hear what is said, and know nothing."""


@dataclass
class Search:
    """The search for a precision.

    Attributes:
        bench: Graph and samples, for the search.
        goal: What must be reached.
        gas: Predicts gas.
        say: Receives what is tried.
        progress: Called after every format tried, with their number.
        plain: Run no pass that changes weights or biases.
        detailed: Return the runners-up, too, measured on all samples: the search itself stops where one fails.
        margin: Share of the gas of the cheapest format that may be spent on a smaller error.
        judges: Judge what the search finds, each on samples of its own.
        whole: Graph and all samples, whatever they are for; None: those of `bench`.
        accuracy: Finds the share of a quantised graph's decisions that are the labels, if these are known.
        share: Has others do what can be done side by side; None: all is done here. The result is the same.
    """

    bench: Workbench
    goal: Goal
    gas: Gas
    say: Say
    progress: Callable[[int], None] = _nobody
    plain: bool = False
    detailed: bool = False
    margin: float = MARGIN
    judges: Sequence[Judge] = ()
    whole: Workbench | None = None
    accuracy: Callable[[Graph], float | None] = _nobody
    share: Share | None = None
    _tried: set[tuple[Precision, bool]] = field(default_factory=set)
    _last: tuple[tuple[Precision, bool], Graph | None] | None = None
    _gas: dict[Precision, int | None] = field(default_factory=dict)
    _good: dict[Precision, bool] = field(default_factory=dict)
    _tuning: Tuning = field(default_factory=Tuning)

    def run(self) -> Choice:
        """Return the cheapest precision found.

        Raises:
            RangeError: none reaches the goal.
        """
        for found in self._proposals():
            for precision in self._by_error(found):
                tuning = self._final_tuning(precision)
                if tuning is not None:
                    shown = tuple(self._candidates(precision, tuning)) if self.detailed else ()
                    return Choice(precision, tuning, shown)
        raise self._refusal()

    # -- the steps -------------------------------------------------------------------------------------------------

    def _proposals(self) -> Iterator[list[Precision]]:
        """Yield formats of about the same gas that reach the goal on the samples of the search, the cheapest first."""
        first = True
        for base in self._uniforms():
            found: list[Precision] = [base]
            if first:
                found.append(self._descend(base))
                if base.activation_bits > _UNIFORM[0]:  # one wide format may be cheaper than many scales
                    found += [binary for binary in [self._binary()] if binary is not None]
            first = False
            while found:
                limit = int(min(map(self._price, found)) * (1 + self.margin))
                close = [p for p in found if self._price(p) <= limit]
                wider = [self._widened(p, limit) for p in close if not isinstance(p, Binary)]
                yield list(dict.fromkeys([*wider, *close]))
                found = [p for p in found if p not in close]
        binary = self._binary()
        if binary is not None:
            yield [binary]

    def _widened(self, precision: Integer | Layered, limit: int) -> Precision:
        """Return a format of more bits, the narrowest number first, whose gas is not above a limit."""
        layers = len(layers_of(self.bench.graph))
        if not layers:
            return precision
        each = precision.layers if isinstance(precision, Layered) else (precision,) * layers
        bits = [b for layer in each for b in (layer.weight_bits, layer.activation_bits)]
        knobs = [k for k in range(len(bits)) if k % 2 == 0 or not self._reads_input(k // 2)]
        most = max(_UNIFORM[0], *bits)
        while knobs:
            knob = min(knobs, key=lambda k: (bits[k], k))
            wider = [*bits[:knob], bits[knob] + 1, *bits[knob + 1 :]]
            if wider[knob] > most or self._price(_precision(wider)) > limit:
                knobs.remove(knob)
            else:
                bits = wider
        return _precision(bits)

    def _by_error(self, found: Sequence[Precision]) -> list[Precision]:
        """Return those formats that reach the goal on the judges' samples, the smallest error first."""
        judged = []
        for precision in found:
            measured = self._judged(precision)
            if measured is not None:
                judged.append((steady(measured.square), self._price(precision), str(precision), precision))
        return [entry[-1] for entry in sorted(judged, key=lambda entry: entry[:3])]

    def _judged(self, precision: Precision) -> Measured | None:
        """Return how good a format is on the judges' samples; None if it does not reach the goal there."""
        tuning, parts = self._tuning_of(precision), list[Measured]()
        total = sum(len(judge.samples) for judge in self.judges)
        if not self.judges:
            graph = self._graph(precision)
            return None if graph is None else self.bench.measure(graph)
        for judge in self.judges:
            try:
                parts.append(judge.measure(precision, tuning))
            except Ml2scError as error:
                self.say(f"{precision}: {error.message}")
                return None
            lost = sum(part.samples - part.kept for part in parts)
            if not self.goal.allows(lost, max(part.largest for part in parts), total):
                self.say(f"{precision}: loses {lost} of {total} decisions that it was not chosen on")
                return None
        return together(parts)

    def _final_tuning(self, precision: Precision) -> Tuning | None:
        """Return the passes for a choice, calibrated with all samples; None if it does not reach the goal on them."""
        bench, tuning = self.whole or self.bench, self._tuning_of(precision)
        if not (isinstance(precision, Binary) or self.plain):
            limit = self._price(precision) + self._price(precision) // _WORTH
            tuning = bench.tune(
                precision, tuning, lambda graph: self.gas(graph) <= limit and bench.meets(graph, self.goal)
            )
        if self.whole is None:
            return tuning
        return tuning if bench.meets(bench.quantized(precision, tuning), self.goal) else None

    def _tuning_of(self, precision: Precision) -> Tuning:
        return Tuning() if isinstance(precision, Binary) else replace(self._tuning, correct=not self.plain)

    def _uniforms(self) -> Iterator[Integer]:
        """Yield the widths for everything that reach the goal, and decide on equalisation at the first."""
        decided = False
        for bits in _UNIFORM:
            precision = Integer(bits, bits)
            try:
                if not (self.plain or decided):
                    # ranges are clipped, if at all, for the formats found in the end
                    tuned = self.bench.tune(precision, Tuning())
                    self._tuning = Tuning(equalize=tuned.equalize, correct=True)
            except Ml2scError as error:
                self.say(f"{precision}: {error.message}")
                self._good[precision] = False
                continue
            if self._is_good(precision):
                decided = True
                yield precision

    def _binary(self) -> Binary | None:
        try:
            binary = choose_binary(self.bench.plain, self.say, self.goal.tolerance or TARGET_ERROR)
        except RangeError as error:
            self.say(error.message)
            return None
        return binary if self._is_good(binary) else None

    def _descend(self, base: Integer) -> Integer | Precision:
        layers = len(layers_of(self.bench.graph))
        if not layers:
            return base
        start = tuple([base.weight_bits, base.activation_bits] * layers)
        knobs = [k for k in range(len(start)) if k % 2 == 0 or not self._reads_input(k // 2)]
        steps = self._all_steps(start, knobs)
        best = start
        for combination in _cheapest_first([[saved for _, saved in s] for s in steps], _TRIES):
            bits = list(start)
            for knob, options, taken in zip(knobs, steps, combination, strict=True):
                bits[knob] = options[taken][0]
            if self._is_good(_precision(bits)) and self._price(_precision(bits)) <= self._price(_precision(start)):
                best = tuple(bits)
                break
        best = self._polish(best, knobs)
        return _precision(best)

    def _all_steps(self, start: tuple[int, ...], knobs: Sequence[int]) -> list[list[tuple[int, int]]]:
        """Return for each of some numbers what `_steps` finds."""
        begin = time.process_time()
        self._price(_precision(start))
        if self.share is None or len(knobs) < 2 or time.process_time() - begin < _SHORT:
            return [self._steps(start, knob) for knob in knobs]
        alone = replace(
            self, say=_nobody, progress=_nobody, accuracy=_nobody, share=None, judges=(), whole=None, _last=None
        )
        found = {}
        for one in self.share(Descent(alone, start), knobs):
            found[one.knob] = one
            self._tried |= one.tried
            self.progress(len(self._tried))
        for knob in knobs:  # in the order in which one process would have gone
            self._gas |= found[knob].gas
            self._good |= found[knob].good
            for line in found[knob].said:
                self.say(line)
        return [found[knob].steps for knob in knobs]

    def _reads_input(self, layer: int) -> bool:
        return layers_of(self.bench.graph)[layer].inputs[0] in self.bench.graph.inputs

    def _steps(self, start: Sequence[int], knob: int) -> list[tuple[int, int]]:
        """Return the widths of one number that save gas, and what they save, the widest first: (bits, gas saved)."""
        found, price = [(start[knob], 0)], self._price(_precision(start))
        for bits in range(start[knob] - 1, _LEAST_BITS - 1, -1):
            changed = _precision([*start[:knob], bits, *start[knob + 1 :]])
            saved = price - self._price(changed)
            if saved <= found[-1][1] + price // _WORTH:
                continue
            if not self._is_good(changed):
                break
            found.append((bits, saved))
        return found

    def _polish(self, bits: tuple[int, ...], knobs: Sequence[int]) -> tuple[int, ...]:
        worth = self._price(_precision(bits)) // _WORTH
        for step, least in ((-1, worth), (1, 0)):
            moved = True
            while moved:
                moved = False
                for knob in knobs:
                    changed = (*bits[:knob], bits[knob] + step, *bits[knob + 1 :])
                    if not _LEAST_BITS <= changed[knob] <= max(_UNIFORM[0], *bits):
                        continue
                    saved = self._price(_precision(bits)) - self._price(_precision(changed))
                    if saved >= least + (step < 0) and self._is_good(_precision(changed)):
                        bits, moved = changed, True
        return bits

    # -- what is known of a precision ------------------------------------------------------------------------------

    def _graph(self, precision: Precision, *, correct: bool = True) -> Graph | None:
        """Return the quantised graph; without corrected biases, which cost time, it has much the same gas.

        Only the last one is kept: of a large model they are large.
        """
        correct = correct and not self.plain
        key = precision, correct
        if self._last is None or self._last[0] != key:
            tuning = replace(self._tuning_of(precision), correct=correct and not isinstance(precision, Binary))
            graph = None
            try:
                graph = self.bench.quantized(precision, tuning)
            except Ml2scError as error:
                if key not in self._tried:
                    self.say(f"{precision}: {error.message}")
            self._last = key, graph
            self._tried.add(key)
            self.progress(len(self._tried))
        return self._last[1]

    def _price(self, precision: Precision) -> int:
        """Return the predicted gas; a format that cannot be compiled is too dear."""
        if precision not in self._gas:
            graph = self._graph(precision, correct=False)
            try:
                self._gas[precision] = None if graph is None else self.gas(graph)
            except Ml2scError as error:
                self.say(f"{precision}: {error.message}")
                self._gas[precision] = None
        gas = self._gas[precision]
        return _TOO_DEAR if gas is None else gas

    def _is_good(self, precision: Precision) -> bool:
        if precision not in self._good:
            graph = self._graph(precision)
            self._good[precision] = graph is not None and self.bench.meets(graph, self.goal)
        return self._good[precision]

    def _candidates(self, best: Precision, tuning: Tuning) -> Iterator[Candidate]:
        """Yield the choice and what else was priced, by gas."""
        bench = self.whole or self.bench
        self._price(best)
        self._price(_USUAL)
        priced = sorted(((gas, str(p), p) for p, gas in self._gas.items() if gas is not None), key=lambda c: c[:2])
        shown = [entry for entry in priced if entry[2] in (best, _USUAL) or entry in priced[:_SHOWN]]
        for gas, _, precision in shown:
            measured = accuracy = None
            with contextlib.suppress(Ml2scError):
                graph = bench.quantized(precision, tuning if precision == best else self._tuning_of(precision))
                measured, accuracy = bench.measure(graph), self.accuracy(graph)
            good = measured is not None and self.goal.allows(
                measured.samples - measured.kept, measured.largest, measured.samples
            )
            yield Candidate(precision, gas, measured, good, accuracy)

    def _refusal(self) -> RangeError:
        """Say what can be reached, and what it would cost."""
        finest: list[Precision] = [Integer(bits, bits) for bits in _UNIFORM[-2:]]
        for bound in _BEST_BOUNDS:
            try:
                finest.append(choose_binary(self.bench.plain, self.say, bound))
            except RangeError:
                break
        found = [(self.bench.measure(graph), p) for p in finest if (graph := self._graph(p)) is not None]
        total, what = len(self.bench.samples), self.goal.text(decides=self.bench.graph.decision is not None)
        if not found:
            return RangeError(f"no format gives {what}", hint="narrow the range with --input-range")
        # the largest error counts where a tolerance is asked for, else the decisions lost
        by_error = self.goal.tolerance is not None
        best, precision = min(found, key=lambda f: (f[0].largest, 0) if by_error else (total - f[0].kept, f[0].largest))
        kept = "" if self.bench.graph.decision is None else f", {best.kept:,} of {total:,} decisions kept"
        price = self._price(precision)
        cost = "" if price == _TOO_DEAR else f", at {price:,} gas an inference"
        return RangeError(
            f"no format gives {what}; the best is {precision}: errors up to {best.largest:.3g}{kept}{cost}"
            f"{self._cause(best)}",
            hint="ask for less (--tolerance, --min-agreement), or narrow the range with --input-range",
        )

    def _cause(self, best: Measured) -> str:
        """Say why even the finest format loses decisions, where that is known."""
        sample, margin = (self.whole or self.bench).closest
        if best.kept == best.samples or self.bench.graph.decision is None or margin > 2 * best.largest:
            return ""
        return f"; the closest decision is that of sample {sample}, whose scores are {margin:.3g} apart"


_TOO_DEAR = 1 << 62


def _precision(bits: Sequence[int]) -> Precision:
    return layered(Integer(w, a) for w, a in zip(bits[::2], bits[1::2], strict=True))


def _cheapest_first(saved: Sequence[Sequence[int]], limit: int) -> Iterator[tuple[int, ...]]:
    """Yield combinations of options, one of each list, those that save most in sum first.

    Args:
        saved: What the options of each list save, growing, from 0.
        limit: How many to yield.
    """
    first = tuple(len(options) - 1 for options in saved)
    heap, seen = [(-sum(options[-1] for options in saved), first)], {first}
    for _ in range(limit):
        if not heap:
            return
        total, combination = heapq.heappop(heap)
        yield combination
        for position, taken in enumerate(combination):
            if taken:
                less = (*combination[:position], taken - 1, *combination[position + 1 :])
                if less not in seen:
                    seen.add(less)
                    lost = saved[position][taken] - saved[position][taken - 1]
                    heapq.heappush(heap, (total + lost, less))
