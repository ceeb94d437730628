"""Where things lie: everything under var/, but sockets in a short private directory of their own."""

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from quantized.devstack.errors import StackError

CHECKOUT = Path(__file__).resolve().parents[2]
VAR = CHECKOUT / "var"

# A socket's path may have 103 bytes on macOS and 107 on Linux; the longest name put after the directory has 22.
DIRECTORY_BYTES_MAX = 80


def socket_directory(root: Path) -> Path:
    """A short name for the sockets of the stack that lives in `root`: clones can be deep, socket paths cannot."""
    digest = hashlib.sha256(f"{os.geteuid()}:{root}".encode()).hexdigest()[:12]
    name = f"quantized-{digest}"
    for base in (tempfile.gettempdir(), "/tmp"):
        if len(os.fsencode(f"{base}/{name}")) <= DIRECTORY_BYTES_MAX:
            return Path(base, name)
    raise StackError("the temporary directory's path is too long for sockets: set TMPDIR to a shorter one")


def make_private(directory: Path, owner_uid: int) -> None:
    """The temporary directory is everybody's: what is found there is trusted only if nobody else can enter it."""
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    if owner_uid != os.geteuid() == directory.lstat().st_uid:
        os.chown(directory, owner_uid, -1, follow_symlinks=False)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner_uid or found.st_mode & 0o077:
        raise StackError(f"{directory} is not a private directory of ours: remove it, or set TMPDIR to one of your own")


def remove_sockets(root: Path) -> None:
    shutil.rmtree(socket_directory(root), ignore_errors=True)
