"""The pauses between attempts, and who may still write after a claim."""

import pytest

from billing.models import Hold
from billing.reconciliation.abandoned_holds import LOOK_UPS
from common.attempts import pause_s
from tests.kit.tenants import Tenant


def test_every_attempt_has_its_pause_and_then_there_is_none() -> None:
    assert [pause_s((5, 15), attempts) for attempts in (1, 2, 3, 4)] == [5, 15, None, None]


@pytest.mark.django_db
def test_only_the_last_claim_writes() -> None:
    hold = Hold.objects.get(pk=Tenant(100).hold(5))
    hold.sweep_attempts = 1
    hold.save(update_fields=["sweep_attempts"])
    Hold.objects.update(sweep_attempts=2)
    assert LOOK_UPS.claimed(Hold.objects.all(), hold).count() == 0
    LOOK_UPS.give_back(Hold.objects.all(), hold, None)
    assert Hold.objects.get().sweep_attempts == 2
    hold.refresh_from_db()
    LOOK_UPS.give_back(Hold.objects.all(), hold, None)
    assert (Hold.objects.get().sweep_attempts, Hold.objects.get().sweep_at) == (1, None)
