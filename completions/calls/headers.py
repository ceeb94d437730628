"""The headers of a call's answer, whatever the dialect: the receipt's id, who served, what was tried before."""

from completions.calls.call import OK, Call
from completions.calls.limits import headers as limit_headers

PROVIDER_HEADER = "x-quantized-provider"
ATTEMPTS_HEADER = "x-quantized-attempts"


def call_headers(call: Call) -> dict[str, str]:
    name = call.route.provider.name
    headers = {"x-generation-id": call.id, PROVIDER_HEADER: name}
    outcomes = [attempt.outcome for attempt in call.attempts]
    if any(outcome != OK for outcome in outcomes):
        tried = [f"{attempt.provider}={attempt.outcome}" for attempt in call.attempts]
        if call.failure is None and outcomes[-1] != OK:  # a stream's attempt is still under way
            tried.append(f"{name}={OK}")
        headers[ATTEMPTS_HEADER] = ", ".join(tried)
    return headers | limit_headers(call.admission) if call.admission is not None else headers
