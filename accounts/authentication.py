"""How ordinary DRF views learn who is calling. The completions view has its own way, by the Directory."""

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from accounts.callers import Principal
from accounts.keys import display
from accounts.principals import authorization, load_principal


class BearerAuthentication(BaseAuthentication):
    """`request.user` is the Principal, `request.auth` what people may see of the key or token: never the whole."""

    def authenticate(self, request: Request) -> tuple[Principal, str] | None:
        header = request.headers.get("authorization")
        if header is None:
            return None  # some views are for everyone; the others answer 401 by their permission
        token = authorization(header)
        return load_principal(token), "…".join(display(token))

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
