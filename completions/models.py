"""The face of this app's tables, for Django and for other rooms; each table stands in the package that writes it.

Every change of providers, models and routes notifies the channel `quantized` (migration 0002), and every worker loads
its catalog anew; see completions/catalog/loader.py for what a request sees of them.
"""

from completions.calls.models import IdempotentCall as IdempotentCall
from completions.calls.models import ServerProcess as ServerProcess
from completions.catalog.models import Model as Model
from completions.catalog.models import PriceChange as PriceChange
from completions.catalog.models import Provider as Provider
from completions.catalog.models import Route as Route
from completions.reconciliation.models import LookupPace as LookupPace
