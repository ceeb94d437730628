"""The sweeper: ends what a crash left, by the table in docs/ledger.md.

A call that never ended is looked up at its provider, if that can be: what it cost is settled like any other, late if
its hold has expired meanwhile. Everything else expires (billing/reconciliation/abandoned_holds.py). Several sweepers
at once do no harm: a call is asked for by one of them, and charged once by its id.
"""

import logging

from billing.ledger import journal, rates
from billing.ledger.commands import Receipt, Settle, Settled
from billing.models import Hold, Usage
from billing.pricing import money
from billing.reconciliation import abandoned_holds as books
from billing.reconciliation.abandoned_holds import Sweep
from completions.providers.record import Generation
from completions.reconciliation.lookups import CLAIM_S, LookupFailed, Lookups, askable, lookups, paced

logger = logging.getLogger(__name__)

LOST = "server_lost"  # the error code of a call whose server died


def sweep() -> Sweep:
    """Settle what a provider knows of overdue calls, then expire the others."""
    providers = askable()
    settled = 0
    for provider in providers:
        with lookups(provider) as asking:
            settled += _settle_known(asking)
    return books.sweep(providers)._replace(settled=settled)


def _settle_known(asking: Lookups) -> int:
    settled = 0
    claimed = _claim(asking.provider)
    while claimed and asking.has_time:
        hold = claimed.pop(0)
        try:
            settled += _settle(asking, hold)
        except LookupFailed as failure:
            logger.warning("a call that never ended cannot be looked up: %s", failure)
            books.put_off(hold, after_s=books.ASK_AFTER_FAILURE_S)
            if not failure.is_of_the_call:
                break
    for hold in claimed:
        books.put_off(hold)
    return settled


def _claim(provider: str) -> list[Hold]:
    with paced(provider) as allowance:
        claimed = books.claim(provider, allowance.left, for_s=CLAIM_S)
        allowance.take(len(claimed))
    return claimed


def _settle(asking: Lookups, hold: Hold) -> bool:
    """Whether this made the call's entry."""
    generation = asking.ask(hold.provider_ref)
    if generation is None:
        books.ask_again(hold)
        return False
    [outcome] = journal.execute([settlement(hold, generation)])
    return isinstance(outcome, Settled) and not outcome.replayed


def settlement(hold: Hold, generation: Generation) -> Settle:
    """The call at its provider's bill and counts, by the rate and the price that it began with."""
    return Settle(
        wallet_id=hold.wallet_id,
        hold_id=hold.pk,
        key_id=hold.key_id,
        actual=rates.struct(hold).micro(money.pico(generation.cost_usd)),
        receipt=Receipt(
            model=hold.model,
            provider=hold.provider,
            price_id=hold.price_id,
            provider_ref=hold.provider_ref,
            usage=generation.usage,
            cost_pico=money.cost_pico(generation.usage, hold.price.to_struct()),
            reported_cost_usd=generation.cost_usd,
            billed_cost_usd=generation.cost_usd,
            streamed=generation.streamed,
            cancelled=generation.cancelled,
            finish_reason=generation.finish_reason,
            error_code=LOST,
            reconciliation=Usage.Reconciliation.SWEPT,
        ),
    )
