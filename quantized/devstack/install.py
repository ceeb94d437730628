"""Makes .venv and installs the pinned dependencies: `python3 quantized/devstack/install.py STAMP`.

Runs on the system's Python before anything is installed, so it needs nothing but the standard library, and it is
kept readable for old versions so that these, too, can say which version is wanted.
"""

import subprocess
import sys
import time
from pathlib import Path

WANTED = (3, 11)
VENV = Path(".venv")
REQUIREMENTS = ("requirements.txt", "requirements-dev.txt")


def main() -> None:
    started = time.monotonic()
    require_version()
    make_venv()
    print("Installing dependencies into .venv ...", flush=True)
    install()
    Path(sys.argv[1]).touch()
    print(f"Installed in {time.monotonic() - started:.0f} s")


def require_version() -> None:
    if sys.version_info < WANTED:
        have, want = (".".join(map(str, version[:2])) for version in (sys.version_info, WANTED))
        sys.exit(
            f"quantized: Python {want} or newer is needed, {sys.executable} is {have}: try make PYTHON=python{want}"
        )


def make_venv() -> None:
    """Again if it does not work: interrupted, moved, or its Python is gone."""
    if is_usable():
        return
    answer = run(sys.executable, "-m", "venv", "--clear", str(VENV))
    if answer.returncode != 0:
        said = " ".join((answer.stdout + answer.stderr).split())
        hint = "apt install python3-venv" if "ensurepip" in said else said
        sys.exit(f"quantized: {sys.executable} cannot make .venv: {hint}")


def is_usable() -> bool:
    python = VENV / "bin" / "python"
    return python.exists() and run(str(python), "-c", "import pip").returncode == 0


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, check=False, capture_output=True, text=True)


def install() -> None:
    """Everything is in the files with its hash, so pip resolves nothing; only errors are worth a line."""
    files = [part for name in REQUIREMENTS for part in ("-r", name)]
    options = ["-qq", "--disable-pip-version-check", "--no-input", "--require-hashes", "--no-deps"]
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", *options, *files]
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit("quantized: the dependencies could not be installed, pip says why above; then try again")


if __name__ == "__main__":
    main()
