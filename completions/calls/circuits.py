"""A circuit breaker per provider: after so many failures in a row it is left alone for a while. No I/O.

closed → (failures in a row) → open → (time) → half-open: one call tries → closed or open again.
Each server process has its own; a refusal of the request itself says nothing about the provider.
"""

import time
from collections.abc import Callable


class Circuit:
    def __init__(self) -> None:
        self.failures = 0
        self.open_until_s: float | None = None
        self.is_probing = False


class Circuits:
    """Circuits by provider name. `acquire` before each call, `record_start` when its answer begins, then exactly one of
    `record_success`, `record_failure` and `release`. `failures_max`: in a row; `open_s`: seconds."""

    def __init__(self, *, failures_max: int, open_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures_max = failures_max
        self._open_s = open_s
        self._clock = clock
        self._circuits: dict[str, Circuit] = {}

    def allows(self, provider: str) -> bool:
        circuit = self._circuits.get(provider)
        if circuit is None or circuit.open_until_s is None:
            return True
        return not circuit.is_probing and self._clock() >= circuit.open_until_s

    def acquire(self, provider: str) -> bool:
        """Whether a call may go there now; half-open, the first one goes and the others do not."""
        if not self.allows(provider):
            return False
        circuit = self._of(provider)
        circuit.is_probing = circuit.open_until_s is not None
        return True

    def record_start(self, provider: str) -> None:
        """The provider has begun to answer: a probe lets others in before it ends. Should it fail after all, the
        circuit opens again at once."""
        circuit = self._circuits.get(provider)
        if circuit is not None and circuit.is_probing:
            circuit.is_probing, circuit.open_until_s = False, None

    def record_success(self, provider: str) -> None:
        self._circuits.pop(provider, None)

    def record_failure(self, provider: str) -> None:
        circuit = self._of(provider)
        circuit.failures += 1
        if circuit.is_probing or circuit.failures >= self._failures_max:
            circuit.open_until_s = self._clock() + self._open_s
        circuit.is_probing = False

    def release(self, provider: str) -> None:
        """The call ended without saying anything about the provider: its client left, or the server stopped."""
        self._of(provider).is_probing = False

    def retry_after_s(self, provider: str) -> float:
        """Seconds until an open circuit may be tried again; 0 for any other."""
        circuit = self._of(provider)
        return max(0.0, (circuit.open_until_s or 0.0) - self._clock())

    def state(self, provider: str) -> str:
        circuit = self._circuits.get(provider)
        if circuit is None or circuit.open_until_s is None:
            return "closed"
        return "open" if self._clock() < circuit.open_until_s else "half_open"

    def troubled(self) -> dict[str, str]:
        """The providers whose circuit is not closed, and how it is."""
        states = {provider: self.state(provider) for provider in self._circuits}
        return {provider: state for provider, state in states.items() if state != "closed"}

    def _of(self, provider: str) -> Circuit:
        return self._circuits.setdefault(provider, Circuit())
