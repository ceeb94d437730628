"""The map of addresses on Django's ordinary lane. The lean lane in front of it takes the model API (asgi.py)."""

from allauth.account import views as allauth
from django.conf import settings
from django.contrib import admin
from django.urls import include, path

from completions.api.auth import JwksView
from quantized import documents, pages, team_pages, webhooks

urlpatterns = [
    path("", pages.home, name="home"),
    path("", include("quantized.dashboard.urls")),
    path("v1/", include("completions.api.urls")),
    path("openapi.json", documents.openapi, name="openapi"),
    path("docs", documents.docs, name="docs"),
    path(".well-known/jwks.json", JwksView.as_view(), name="jwks"),
    path("webhooks/stripe", webhooks.stripe, name="stripe-webhook"),
    path("accounts/login/", allauth.login, name="login"),
    path("accounts/logout/", allauth.logout, name="logout"),
    path("accounts/", include("allauth.urls")),
    path("invitations/<str:token>/", team_pages.invitation, name="invitation"),
    path("organizations/<uuid:organization_id>/switch", team_pages.switch_organization, name="switch_organization"),
    path(f"{settings.ADMIN_PATH}/", admin.site.urls),
    path("robots.txt", pages.robots),
    path("favicon.ico", pages.favicon),
]

handler400 = pages.bad_request
handler403 = pages.forbidden
handler404 = pages.not_found
handler500 = pages.server_error
