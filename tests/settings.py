"""Production's settings, but for the work that a password costs: for tests and for the processes they start."""

from quantized.settings import *  # noqa: F403

PASSWORD_HASHERS = ["tests.hashers.CheapArgon2PasswordHasher", *PASSWORD_HASHERS[1:]]  # noqa: F405
