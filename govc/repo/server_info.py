"""Writing a small file whole or not at all: info/refs and objects/info/packs for static web servers.

Source: git-update-server-info.
"""

import os
import secrets


def replace_file(path: str, content: bytes) -> None:
    """Replace the file at `path` by `content`; its folder is made when it is missing. Raises OSError."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    temporary = f"{path}_{secrets.token_hex(8)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
