"""How the admin looks: unfold's settings and our colours. Read by the settings: no model is known here yet."""

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.templatetags.static import static

GREYS = {
    "50": "#f7f7f8",
    "100": "#eeeef0",
    "200": "#dddde2",
    "300": "#c6c6ce",
    "400": "#a3a3b0",
    "500": "#62626e",
    "600": "#484852",
    "700": "#3a3a44",
    "800": "#2a2a32",
    "900": "#1a1a1f",
    "950": "#121215",
}
ACCENTS = {
    "50": "#eef1fd",
    "100": "#e0e5fb",
    "200": "#c6cff7",
    "300": "#a9b5fb",
    "400": "#93a2ff",
    "500": "#7485f0",
    "600": "#3b50d6",
    "700": "#2c3eb4",
    "800": "#26348f",
    "900": "#24306f",
    "950": "#161c45",
}
SITE = "quantized.operator.look"


def unfold() -> dict[str, Any]:
    """What settings.UNFOLD is."""
    return {
        "SITE_TITLE": "Quantized",
        "SITE_HEADER": "Quantized",
        "SITE_SUBHEADER": "Operators",
        "SITE_ICON": f"{SITE}.icon",
        "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": icon}],
        "SHOW_VIEW_ON_SITE": False,
        "DASHBOARD_CALLBACK": "quantized.operator.first_page.context",
        "ENVIRONMENT": f"{SITE}.environment",
        "BORDER_RADIUS": "8px",
        "COLORS": {"base": GREYS, "primary": ACCENTS},
        "STYLES": [style],
        "SIDEBAR": {"navigation": "quantized.operator.navigation.navigation"},
    }


def icon(request: HttpRequest) -> str:
    return static("quantized/favicon.svg")


def style(request: HttpRequest) -> str:
    return static("quantized/operator.css")


def environment(request: HttpRequest) -> tuple[str, str]:
    """Which server this is: two windows of the admin look alike."""
    host = urlsplit(settings.PUBLIC_URL).netloc
    return (host, "success") if settings.HTTPS else (host, "info")
