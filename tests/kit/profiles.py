"""How hard the generated tests try: a short form in every run, HYPOTHESIS_PROFILE=long before a release."""

import os

from hypothesis import HealthCheck, settings

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
LONGER = 20


def examples(short: int) -> settings:
    """`short` examples, the same ones in every run; many times more and ever new ones in the long form."""
    return settings(
        max_examples=short * LONGER if LONG else short,
        derandomize=not LONG,
        database=None,
        deadline=None,
        print_blob=LONG,
        # A test's transaction may serve all its examples: each makes its own organizations.
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
