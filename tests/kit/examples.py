"""Examples of the documents, run as a caller would who copied them: each in a process of its own."""

import os
import subprocess

TIMEOUT_S = 30


def output(*command: str) -> str:
    """What it printed; it has to succeed, and sees nothing of our environment."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "NO_PROXY": "*"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
