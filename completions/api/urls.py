"""The model API's addresses, under /v1."""

from django.urls import path

from completions.api.account import CreditsView, GenerationView, KeyView
from completions.api.auth import RefreshView, RevokeView, TokenView
from completions.api.calls import CallView
from completions.api.keys import KeyItemView, KeyListView, KeyRotationView
from completions.api.models import ModelListView, ModelView
from completions.api.usage import UsageReportView
from completions.dialects import DIALECTS

urlpatterns = [
    *(path(address.removeprefix("/v1/"), CallView.as_view(dialect=dialect)) for address, dialect in DIALECTS.items()),
    path("models", ModelListView.as_view(), name="models"),
    path("models/<path:model_id>", ModelView.as_view(), name="model"),
    path("credits", CreditsView.as_view(), name="credits"),
    path("key", KeyView.as_view(), name="key"),
    path("keys", KeyListView.as_view(), name="keys"),
    path("keys/<str:key_id>", KeyItemView.as_view(), name="key-item"),
    path("keys/<str:key_id>/rotate", KeyRotationView.as_view(), name="key-rotation"),
    path("usage", UsageReportView.as_view(), name="usage"),
    path("generation", GenerationView.as_view(), name="generation"),
    path("auth/token", TokenView.as_view(), name="token"),
    path("auth/refresh", RefreshView.as_view(), name="refresh"),
    path("auth/revoke", RevokeView.as_view(), name="revoke"),
]
