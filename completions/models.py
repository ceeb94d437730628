"""The face of this app's tables, for Django and for other rooms; each table stands in the package that writes it.

Every change of providers, models and routes notifies the channel `quantized` (migration 0002), and every worker loads
its catalog anew; see completions/catalog/loader.py for what a request sees of them.
"""

from completions.calls.models import IdempotentCall as IdempotentCall
from completions.calls.models import ServerProcess as ServerProcess
from completions.catalog.models import CAPABILITIES as CAPABILITIES
from completions.catalog.models import LONG_AGO as LONG_AGO
from completions.catalog.models import PRICED_CAPABILITIES as PRICED_CAPABILITIES
from completions.catalog.models import PRIVATE_NETWORKS as PRIVATE_NETWORKS
from completions.catalog.models import PRIVATE_SUFFIXES as PRIVATE_SUFFIXES
from completions.catalog.models import Model as Model
from completions.catalog.models import PriceChange as PriceChange
from completions.catalog.models import Provider as Provider
from completions.catalog.models import Route as Route
from completions.catalog.models import missing_prices as missing_prices
from completions.catalog.models import unknown_capabilities as unknown_capabilities
from completions.reconciliation.models import LookupPace as LookupPace
