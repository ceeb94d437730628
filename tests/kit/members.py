"""Members who log in: people with a password in a tenant's organization, their sessions, and forged tokens."""

import base64
import json
import os
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from accounts.models import TokenFamily, User
from accounts.services import create_user
from tests.kit.calls import Answer, call
from tests.kit.live import Server
from tests.kit.tenants import Tenant

PASSWORD = "correct-horse-1"


class Bearer(NamedTuple):
    """Whoever calls with this key or token; nothing else is known of them."""

    api_key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"}


def new_user() -> User:
    return create_user(f"member-{os.urandom(6).hex()}@example.org", PASSWORD)


def family_of(member: Tenant) -> TokenFamily:
    return TokenFamily.objects.get(user=member.user)


def post_json(server: Server, path: str, body: Any) -> Answer:
    return call(server, "POST", path, {"content-type": "application/json"}, json.dumps(body).encode())


def log_in(server: Server, email: str, password: str = PASSWORD, **more: Any) -> Answer:
    return post_json(server, "/v1/auth/token", {"email": email, "password": password, **more})


def refresh(server: Server, token: str) -> Answer:
    return post_json(server, "/v1/auth/refresh", {"refresh_token": token})


def revoke(server: Server, token: str) -> Answer:
    return post_json(server, "/v1/auth/revoke", {"refresh_token": token})


def credits(server: Server, token: str) -> Answer:
    """A look-up on the ordinary lane."""
    return call(server, "GET", "/v1/credits", {"authorization": f"Bearer {token}"})


# --- Forgery ----------------------------------------------------------------------------------------


def encoded(part: Any) -> str:
    """A segment; text and bytes as they are, anything else as JSON."""
    data = part if isinstance(part, bytes) else part.encode() if isinstance(part, str) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: Any, payload: Any, key: Ed25519PrivateKey) -> str:
    content = f"{encoded(header)}.{encoded(payload)}"
    return f"{content}.{encoded(key.sign(content.encode()))}"
