"""How tests hash passwords."""

from django.contrib.auth.hashers import Argon2PasswordHasher


class CheapArgon2PasswordHasher(Argon2PasswordHasher):
    """Production's algorithm at the least work it can be told, a millisecond instead of a hundred: the suite makes more
    than a thousand users. Each hash names its parameters, so production's hasher verifies these, and this one those."""

    time_cost = 1
    memory_cost = 8  # KiB
    parallelism = 1
