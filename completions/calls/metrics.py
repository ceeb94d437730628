"""What one process counts of its calls, as plain numbers: a few look-ups and additions per call, and no I/O.

quantized/metrics.py makes Prometheus's text of it, together with what the other processes counted. Labels are
providers, models and outcomes, which the catalog and the code bound; never a tenant or a key.
"""

from collections import Counter

from billing.ledger.commands import Settle, Settled, Void
from common.histogram import Histogram
from completions.calls.call import OK, Call

SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)


class Series:
    """The calls of one model at one provider that ended in one way; the histograms are all of the provider's."""

    __slots__ = (
        "cached_tokens",
        "calls",
        "charged_micro",
        "completion_tokens",
        "first_token",
        "prompt_tokens",
        "reasoning_tokens",
        "seconds",
    )

    def __init__(self, seconds: Histogram, first_token: Histogram) -> None:
        self.calls = self.charged_micro = 0
        self.prompt_tokens = self.cached_tokens = self.completion_tokens = self.reasoning_tokens = 0
        self.seconds = seconds
        self.first_token = first_token


class CallMetrics:
    def __init__(self) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()  # endpoint, HTTP status of every answer of the model API
        self.calls: dict[tuple[str, str, str, str], Series] = {}  # by provider, model, outcome, endpoint
        self.attempts: Counter[tuple[str, str]] = Counter()  # provider, outcome
        self.failovers: Counter[tuple[str, str]] = Counter()  # the provider that was left, its outcome
        self.seconds: dict[str, Histogram] = {}  # by provider
        self.first_token: dict[str, Histogram] = {}
        self.open_streams = 0

    def ended(self, call: Call, command: Settle | Void, settled: Settled | None) -> None:
        route = call.route
        key = (route.provider.name, route.model, call.outcome or OK, call.ask.endpoint)
        series = self.calls.get(key) or self._begin(key)
        series.calls += 1
        series.seconds.observe(call.elapsed_ms / 1000)
        if call.first_token_ms is not None:
            series.first_token.observe(call.first_token_ms / 1000)
        self._tried(call)
        if settled is not None and command.receipt is not None:
            usage = command.receipt.usage
            series.charged_micro += settled.charged
            series.prompt_tokens += usage.prompt_tokens
            series.cached_tokens += usage.cached_tokens
            series.completion_tokens += usage.completion_tokens
            series.reasoning_tokens += usage.reasoning_tokens

    def _begin(self, key: tuple[str, str, str, str]) -> Series:
        seconds = self.seconds.setdefault(key[0], Histogram(SECONDS))
        first_token = self.first_token.setdefault(key[0], Histogram(SECONDS))
        series = self.calls[key] = Series(seconds, first_token)
        return series

    def _tried(self, call: Call) -> None:
        attempts = call.attempts
        for attempt in attempts:
            made = attempt.provider, attempt.outcome
            self.attempts[made] += 1
            if attempt is not attempts[-1]:
                self.failovers[made] += 1
