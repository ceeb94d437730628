"""The organization's own facts, and the viewer's."""

from allauth.mfa.utils import is_mfa_enabled
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from accounts import services
from common import checks
from quantized.dashboard.frame import Visitor, member_page, show, user_of


@require_http_methods(["GET", "POST"])
@member_page
def page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    name, problem = visitor.organization.name, ""
    if request.method == "POST":
        if not visitor.may_manage_keys:
            raise PermissionDenied
        name = request.POST.get("name", "")
        try:
            services.rename_organization(visitor.organization.pk, name)
        except checks.Invalid as invalid:
            problem = f"The name {invalid.message}."
        else:
            messages.success(request, "Saved.")
            return redirect("dashboard:settings")
    context = {"name": name, "problem": problem, "has_second_factor": is_mfa_enabled(user_of(request))}
    return show(request, visitor, "settings.html", context, status=422 if problem else 200)
