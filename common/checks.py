from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.validators import validate_email


def normal_email(email: str) -> str:
    return email.strip().lower()


# Later times would come back from the database with a year that Python does not know.
EXPIRY_MAX = datetime(3000, 1, 1, tzinfo=UTC)


class Invalid(ValueError):
    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


# --- What is accepted -------------------------------------------------------------------------------


def checked_email(email: str) -> str:
    """The address as accounts are found by it, in lower case. Raises Invalid("email", ...) for what is none."""
    email = normal_email(email)
    try:
        validate_email(email)
    except ValidationError:
        raise Invalid("email", f"{email!r} is not an e-mail address") from None
    return email


def checked_text(field: str, text: str, characters_max: int) -> str:
    """The text without spaces around it. Raises Invalid, naming the field, when nothing is left, when it is longer than
    `characters_max`, and for characters that cannot be printed, line ends among them."""
    text = text.strip()
    if not text:
        raise Invalid(field, "must not be empty")
    if len(text) > characters_max:
        raise Invalid(field, f"must have at most {characters_max} characters, not {len(text)}")
    if not text.isprintable():
        raise Invalid(field, "must not contain control characters")
    return text


def checked_choice(field: str, value: str, choices: Sequence[str]) -> str:
    """The value, if it is one of the choices. Raises Invalid, naming field and choices."""
    if value not in choices:
        raise Invalid(field, f"must be one of {', '.join(choices)}, not {value!r}")
    return value


def checked_positive(field: str, value: int | None, most: int) -> int | None:
    """The value, if it is from 1 to `most`; None stays None. Raises Invalid, naming the field."""
    if value is not None and not 0 < value <= most:
        raise Invalid(field, f"must be between 1 and {most}, not {value}")
    return value


def checked_expiry(expires_at: datetime | None) -> datetime | None:
    """The moment in UTC; None, for never, stays None. Raises Invalid("expires_at", ...) without a time zone, for what
    is over, and from the year 3000 on."""
    if expires_at is None:
        return None
    if expires_at.tzinfo is None:
        raise Invalid("expires_at", "must have a time zone")
    if expires_at <= datetime.now(UTC):
        raise Invalid("expires_at", f"must be in the future, not {expires_at.isoformat()}")
    if expires_at >= EXPIRY_MAX:
        raise Invalid("expires_at", f"must be before the year 3000, not {expires_at.isoformat()}")
    return expires_at.astimezone(UTC)


def as_uuid(text: UUID | str) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None
