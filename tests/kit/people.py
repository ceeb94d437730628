"""What a person does on the pages of accounts: forms, codes from e-mails, an authenticator app."""

import re
import time

from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value

PASSWORD = "correct-horse-battery-1"


def visible(page):
    """What a reader sees, in one line."""
    html = re.sub(r"<(script|style).*?</\1>", " ", page.content.decode(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", html).replace("\xa0", " ").split())


def log_in(client, email, password=PASSWORD, **more):
    return client.post("/accounts/login/", {"login": email, "password": password, **more})


def sign_up(client, email, password=PASSWORD, **more):
    return client.post("/accounts/signup/", {"email": email, "password1": password, **more})


def code_in(letter):
    """The code stands on a line of its own."""
    return re.search(r"^([A-Z0-9]{4}-[A-Z0-9]{4})$", letter.body, re.MULTILINE)[1]


def confirm(client, letter):
    return client.post("/accounts/confirm-email/", {"code": code_in(letter)})


def is_logged_in(client):
    return "_auth_user_id" in client.session


def app_code(secret, steps=0):
    """What an authenticator app shows now, or so many steps of 30 seconds later."""
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + steps))
