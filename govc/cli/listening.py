"""Where `govc serve` is going to listen, and why it can't on a Unix socket.

A path is checked before the server starts: gunicorn removes whatever socket it finds there, so the server that listens
on it would run on without anybody who could reach it.

Sockets that were handed over win over the setting: by systemd (sd_listen_fds(3)), or by a master that is being replaced
(gunicorn's SIGUSR2).
"""

import os
import socket
import stat

UNIX = "unix:"


def socket_path(bind: str) -> str:
    """Return the path of unix:PATH, as gunicorn has it."""
    return bind.removeprefix(UNIX).removeprefix("//")


def _inherited() -> list[int]:
    """Return the descriptors of sockets that were handed over."""
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and count.isdecimal():
        return list(range(3, 3 + int(count)))
    return [int(number) for number in os.environ.get("GUNICORN_FD", "").split(",") if number.isdecimal()]


def _is_unix_descriptor(descriptor: int) -> bool:
    try:
        connection = socket.socket(fileno=descriptor)
    except OSError:  # gunicorn will say it
        return False
    family = connection.family
    connection.detach()
    return family == socket.AF_UNIX


def listens_on_unix(bind: str) -> bool:
    """Say whether (one of) the sockets will be a Unix socket."""
    inherited = _inherited()
    return any(map(_is_unix_descriptor, inherited)) if inherited else bind.startswith(UNIX)


def find_socket_problem(bind: str) -> str:
    """Say why there can't be a Unix socket at the path; gunicorn would try for five seconds, end in a traceback, or
    take away a socket that is in use.
    """
    if not bind.startswith(UNIX) or _inherited():
        return ""
    path = socket_path(bind)
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        return f"no folder for the socket: {folder}"
    if not os.path.exists(path):
        return ""
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        return f"not a socket: {path}"
    return _find_listener(path)


def _find_listener(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        try:
            connection.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):  # what a killed server has left
            return ""
        except BlockingIOError:  # its queue is full
            pass
        except OSError as error:  # somebody else's, perhaps: not ours to remove
            return f"the socket can't be looked at: {path}: {error.strerror}"
    return f"the socket is in use: {path}"
