"""The sandbox upstream in the foreground."""

import json
import logging
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from sandbox import cards, server
from sandbox.app import Config, make_app
from sandbox.directives import BadDirective


class Command(BaseCommand):
    help = "Serve the sandbox upstream: OpenRouter's and Anthropic's wire formats on loopback, deterministic answers."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--default", default="", metavar="DIRECTIVE", help='e.g. "tokens=200 delay_ms=5"')
        parser.add_argument("--catalog", type=Path, default=cards.CATALOG, help="whose models it serves")
        parser.add_argument("--json", action="store_true", help="say the address as one JSON object")

    def handle(self, *_: Any, **options: Any) -> None:
        # uvicorn tells of its start and end; the one line on standard output is ours.
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        try:
            openrouters, claudes = _cards(options["catalog"], "openrouter"), _cards(options["catalog"], "anthropic")
            app = make_app(Config(cards=openrouters, claudes=claudes, default=options["default"]))
            listener = server.listen(options["host"], options["port"])
        except BadDirective as error:
            raise CommandError(f"--default: {error}") from error
        except OSError as error:
            raise CommandError(f"cannot listen on {options['host']}:{options['port']}: {error.strerror}") from error
        line = self._line(server.url(listener), options["json"])
        server.Server(app, listener, lambda: self._say(line)).serve_until_stopped()

    def _line(self, origin: str, as_json: bool) -> str:
        if as_json:
            told = {"base_url": f"{origin}/api/v1", "anthropic_base_url": origin, "calls": f"{origin}/_sandbox/calls"}
            return json.dumps(told)
        return f"sandbox upstream ready at {origin}/api/v1, as Anthropic at {origin} (calls: {origin}/_sandbox/calls)"

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def _cards(catalog: Path, kind: str) -> dict[str, cards.Card] | None:
    """Without a catalog file any model is served."""
    return cards.read(catalog, kind) if catalog.exists() else None
