from completions.providers.record import DayReports, Headers, Lookup, ProviderKind
from completions.routes import RouteRules
from tests.kit.telepathy import bills
from tests.kit.telepathy.adapter import LINES, Telepathy
from tests.kit.telepathy.fields import FIELDS


class Rules(RouteRules, frozen=True, kw_only=True, forbid_unknown_fields=True):
    moods: tuple[str, ...] = ()


def credentials(secret: str) -> Headers:
    return {"x-handshake": secret}


TELEPATHY = ProviderKind(
    name="telepathy",
    label="Telepathy",
    translators={"chat": Telepathy()},
    base_url_setting="TELEPATHY_BASE_URL",
    key_setting="TELEPATHY_HANDSHAKE",
    probe_path="/mind",
    credentials=credentials,
    stream_media_type=LINES,
    rules=Rules,
    lookup=Lookup(60, bills.inquiry, bills.read),
    day_reports=DayReports(key_setting="TELEPATHY_BOOKKEEPER", read=bills.read_days),
    treatment=FIELDS,
)
