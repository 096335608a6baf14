"""The last lines of `make test`: each test that failed with its reason, and the seconds of each part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.runner.run import Result


def lines(results: Sequence[Result], seconds: float) -> list[str]:
    """How many tests passed and failed, one line for each that failed, one for each part."""
    counts: Counter[str] = sum((result.found.counts for result in results), Counter())
    failed = [
        f"FAILED {result.part.name}: {failure.test}: {failure.reason}"
        for result in results
        for failure in result.found.failures
    ]
    width = max(len(result.part.name) for result in results)
    return [
        f"{counts['passed']} passed, {len(failed)} failed",
        *failed,
        *(f"{result.part.name:<{width}} {result.seconds:6.0f} s  {_words(result)}" for result in results),
        f"{'all':<{width}} {seconds:6.0f} s",
    ]


def code(results: Sequence[Result]) -> int:
    """0 when every part passed, 130 when the run was interrupted, else 1."""
    ends = {result.ended for result in results}
    if "interrupted" in ends:
        return 130
    return 0 if ends == {"passed"} else 1


def _words(result: Result) -> str:
    counted = [f"{result.found.counts[name]} {name}" for name in ("passed", "failed", "skipped")]
    told = [text for text in counted if not text.startswith("0 ")]
    return ", ".join([result.ended, *(["tests: " + ", ".join(told)] if told else [])])
