"""The face of this app's tables, for Django and for other rooms; each table stands in the package that writes it.

The database holds the invariants (CHECK, UNIQUE, triggers in the migrations). What moves credits (balances of wallets,
holds and how they end, entries, meters, usage) is written by billing/ledger/batch.py, in batches; every other table,
and columns such as a hold's look-ups, by the module that is about it. Amounts are micro-credits.
"""

from billing.credits.models import Lot as Lot
from billing.credits.models import Operation as Operation
from billing.credits.models import Voucher as Voucher
from billing.credits.models import VoucherBatch as VoucherBatch
from billing.ledger.models import Entry as Entry
from billing.ledger.models import Hold as Hold
from billing.ledger.models import Meter as Meter
from billing.ledger.models import Wallet as Wallet
from billing.notices.models import AlertRule as AlertRule
from billing.notices.models import Delivery as Delivery
from billing.notices.models import Notification as Notification
from billing.notices.models import WebhookEndpoint as WebhookEndpoint
from billing.oversight.models import Heartbeat as Heartbeat
from billing.oversight.models import MeterCheckpoint as MeterCheckpoint
from billing.oversight.models import VerifierRun as VerifierRun
from billing.oversight.models import WalletCheckpoint as WalletCheckpoint
from billing.payments.models import AutoTopUp as AutoTopUp
from billing.payments.models import Dispute as Dispute
from billing.payments.models import Payment as Payment
from billing.payments.models import StripeCustomer as StripeCustomer
from billing.payments.models import StripeEvent as StripeEvent
from billing.pricing.models import CreditRate as CreditRate
from billing.pricing.models import Price as Price
from billing.reconciliation.models import ExtraCharge as ExtraCharge
from billing.reconciliation.models import FailedAttempt as FailedAttempt
from billing.reconciliation.models import Loss as Loss
from billing.reconciliation.models import ProviderDay as ProviderDay
from billing.usage.models import AttemptHour as AttemptHour
from billing.usage.models import ProviderHour as ProviderHour
from billing.usage.models import RollUpState as RollUpState
from billing.usage.models import Usage as Usage
from billing.usage.models import UsageHour as UsageHour
from billing.usage.models import UsageRetention as UsageRetention
from billing.usage.models import UsageSums as UsageSums
