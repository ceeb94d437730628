"""What one process counts of its calls, as plain numbers: a few dictionary look-ups per call, and no I/O.

quantized/metrics.py makes Prometheus's text of it, together with what the other processes counted. Labels are
providers, models and outcomes, which the catalog and the code bound; never a tenant or a key.
"""

from collections import Counter

from billing.ledger import Settle, Settled, Void
from billing.tally import Histogram
from completions.call import Call

SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)
OK = "ok"


class CallMetrics:
    def __init__(self) -> None:
        self.answers: Counter[int] = Counter()  # HTTP status of every answer of the model API
        self.calls: Counter[tuple[str, str, str]] = Counter()  # provider, model, outcome
        self.attempts: Counter[tuple[str, str]] = Counter()  # provider, outcome
        self.failovers: Counter[tuple[str, str]] = Counter()  # the provider that was left, its outcome
        self.tokens: Counter[tuple[str, str, str]] = Counter()  # provider, model, kind
        self.charged_micro: Counter[tuple[str, str]] = Counter()  # provider, model
        self.durations: dict[str, Histogram] = {}  # by provider, seconds
        self.first_tokens: dict[str, Histogram] = {}
        self.open_streams = 0

    def ended(self, call: Call, command: Settle | Void, settled: Settled | None) -> None:
        provider, model = call.route.provider.name, call.route.model
        self.calls[provider, model, call.outcome or OK] += 1
        self._tried(call)
        self._of(self.durations, provider).observe(call.elapsed_ms / 1000)
        if call.first_token_ms is not None:
            self._of(self.first_tokens, provider).observe(call.first_token_ms / 1000)
        if settled is None or command.receipt is None:
            return
        self.charged_micro[provider, model] += settled.charged
        usage, tokens = command.receipt.usage, self.tokens
        tokens[provider, model, "prompt"] += usage.prompt_tokens
        tokens[provider, model, "completion"] += usage.completion_tokens
        if usage.cached_tokens:
            tokens[provider, model, "cached"] += usage.cached_tokens
        if usage.reasoning_tokens:
            tokens[provider, model, "reasoning"] += usage.reasoning_tokens

    def stream_began(self) -> None:
        self.open_streams += 1

    def stream_ended(self) -> None:
        self.open_streams -= 1

    def _tried(self, call: Call) -> None:
        for number, attempt in enumerate(call.attempts, start=1):
            made = (str(attempt["provider"]), str(attempt["outcome"]))
            self.attempts[made] += 1
            if number < len(call.attempts):
                self.failovers[made] += 1

    @staticmethod
    def _of(histograms: dict[str, Histogram], provider: str) -> Histogram:
        found = histograms.get(provider)
        if found is None:
            found = histograms[provider] = Histogram(SECONDS)
        return found
