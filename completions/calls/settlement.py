"""After the provider: what the call's end means in money, and the one command that closes its hold.

Every way a call can end comes through `close`.
"""

import asyncio
import logging
from typing import Any

import msgspec

from billing.ledger.commands import Receipt, Settle, Settled, Void
from billing.ledger.writer import Writer
from billing.pricing import money
from completions import errors
from completions.calls import failures
from completions.calls.bounds import estimated_usage
from completions.calls.call import OK, Call
from completions.calls.idempotency import ANSWER_BYTES_MAX, StoredAnswer
from completions.calls.limits import Limiter
from completions.calls.metrics import CallMetrics
from completions.chat.tokens import estimate_completion_tokens

logger = logging.getLogger("quantized.calls")


class Settlement:
    def __init__(self, writer: Writer, limiter: Limiter, metrics: CallMetrics) -> None:
        self._writer = writer
        self._limiter = limiter
        self._metrics = metrics

    async def close(self, call: Call) -> Settled | None:
        """Settle or release the hold, durably; None when nothing is charged. Never raises: what goes wrong becomes the
        call's failure. The command is queued before anything is awaited but the keeping of an answer that its client
        will ask for again, and the writer books it too if this task is cancelled."""
        try:
            command = ending(call)
            is_kept = False
            try:
                is_kept = await self._keep(call, command)
            finally:
                booked = self._writer.submit(command)
            alert(call)
            try:
                outcome = await booked
            finally:
                if (
                    call.admission is not None
                ):  # before the client has its answer, so that its next call is not refused for this one
                    await self._limiter.release(call.admission, call.billed.total_tokens if call.billed else 0)
            if not is_kept:  # the database was away; now that it has taken the settlement, it takes the answer too
                await self._keep(call, command)
            settled = outcome if isinstance(outcome, Settled) else None
            log(call, command, settled)
            self._metrics.ended(call, command, settled)
            return settled
        except asyncio.CancelledError:  # the server cannot wait for the ledger: the settlement will be spooled
            call.failure = failures.of_shutdown()
        except Exception as error:
            call.failure = failures.of_exception(error)
        return None

    async def _keep(self, call: Call, command: Settle | Void) -> bool:
        """The answer of a request with an Idempotency-Key is stored before it is paid for; whether it was. Failing
        to store it must not keep it from being paid."""
        if call.claim is None:
            return True
        try:
            answer = stored_answer(call, command)
            await (call.claim.store(answer) if answer is not None else call.claim.drop())
        except Exception as error:
            errors.log_unexpected(error)
            return False
        return True


def billed_usage(call: Call) -> tuple[money.Usage, bool] | None:
    """The usage to charge and whether it is an estimate; None when nothing is to be paid.

    Nothing is charged for a call that failed without output (without any answer delivered, if it
    was not streamed), nor for one whose client left before the provider began to answer. A reported
    zero is zero; missing or absurd figures become an estimate of what was delivered, and so does the
    output of a provider that had only told the prompt's side yet.
    """
    delivered_bytes = call.output_bytes if call.ask.stream else 0
    if (call.failure is not None and not delivered_bytes) or not call.begun:
        return None
    reported = call.reported
    if reported is not None and reported.usage is not None and not reported.is_partial:
        return reported.usage, False
    # Never beyond what the hold covers: the provider was told the bound.
    output_tokens = min(estimate_completion_tokens(call.output_bytes), call.output_bound)
    if reported is None or reported.usage is None:
        prompt_tokens = min(call.ask.demand.prompt_tokens_max, call.route.context_length)
        return estimated_usage(prompt_tokens, output_tokens), True
    so_far = max(reported.usage.completion_tokens, output_tokens)
    return msgspec.structs.replace(reported.usage, completion_tokens=so_far), True


def ending(call: Call) -> Settle | Void:
    """The command that closes the call's hold, with its receipt. Also a call that is not charged has one: what had
    begun to answer may be billed to us, and is looked up."""
    billed = billed_usage(call)
    usage, estimated = billed or (money.Usage(), False)
    call.billed = usage if billed else None
    provider, due_s = call.route.provider, call.look_up_after_s
    receipt = Receipt(
        model=call.route.model,
        provider=provider.name,
        price_id=call.route.price.id,
        provider_ref=call.provider_ref,
        usage=usage,
        cost_pico=money.cost_pico(usage, call.route.price) if billed else 0,
        reported_cost_usd=call.reported.cost_usd if call.reported else None,
        streamed=call.ask.stream,
        cancelled=call.cancelled,
        estimated=estimated,
        finish_reason=call.finish_reason,
        error_code=call.outcome,
        attempts=tuple(call.attempts),
        failed=tuple(call.failed),
        first_token_ms=call.first_token_ms,
        latency_ms=call.elapsed_ms,
        reconciliation="none" if due_s is None else "pending",
        reconcile_after_s=due_s,
    )
    whose: dict[str, Any] = {
        "wallet_id": call.principal.organization_id,
        "hold_id": call.hold_id,
        "key_id": call.principal.key_id,
    }
    if billed is None:
        return Void(**whose, receipt=receipt)
    return Settle(**whose, receipt=receipt, actual=call.rate.micro(receipt.cost_pico))


def stored_answer(call: Call, command: Settle | Void) -> StoredAnswer | None:
    """What a retry shall get; None for a call that failed, or an answer too large to keep."""
    body = b"".join(call.written)
    if call.failure is not None or not isinstance(command, Settle) or len(body) > ANSWER_BYTES_MAX:
        return None
    return StoredAnswer(
        provider=call.route.provider.name,
        model=call.route.model,
        created=call.created,
        system_fingerprint=call.system_fingerprint,
        streamed=call.ask.stream,
        body=body,
        settle=command,
    )


def alert(call: Call) -> None:
    """What the operator has to know at once; never the words of a provider, which may quote a prompt."""
    failure, reported = call.failure, call.reported
    if failure is not None and failure.is_provider_auth:
        logger.error("our account at %s is refused: %s (status %s)", call.route.provider.name, call.id, failure.status)
    if reported is not None and reported.problem is not None:
        logger.error("%s reported %s usage for %s", call.route.provider.name, reported.problem, call.id)


def log(call: Call, command: Settle | Void, settled: Settled | None) -> None:
    """One line per call: whose, where, how much, how long, how it ended."""
    assert command.receipt is not None
    usage = command.receipt.usage
    loss_micro = command.actual - settled.charged if settled and isinstance(command, Settle) else 0
    logger.info(
        "%s organization=%s model=%s provider=%s prompt=%d completion=%d micro=%d first_ms=%s ms=%d outcome=%s%s",
        call.id,
        call.principal.organization_id,
        call.route.model,
        call.route.provider.name,
        usage.prompt_tokens,
        usage.completion_tokens,
        settled.charged if settled else 0,
        call.first_token_ms,
        call.elapsed_ms,
        call.outcome or OK,
        f" loss={loss_micro}" if loss_micro > 0 else "",
    )
