"""The entry point for any WSGI server: `govc.wsgi:application`, configured by the environment.

It is made at the first request, not at import, so that a server may import it before it forks or patches.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from govc.app import create_app

_Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _LazyApplication:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._application: _Wsgi | None = None

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        application = self._application
        if application is None:
            with self._lock:
                application = self._application
                if application is None:
                    application = self._application = create_app()
        return application(environ, start_response)


application = _LazyApplication()
