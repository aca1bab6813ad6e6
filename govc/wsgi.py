"""The entry point for any WSGI server: `govc.wsgi:application`, configured by the environment.

It is made at the first request, not at import, so that a server may import it before it forks or patches.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from govc.app import create_app
from govc.limits.watch import LimitWatch
from govc.web.slow_clients import SlowClients
from govc.web.wsgi_app import Application


class _LazyApplication:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._application: Application | None = None
        self._is_ending: Callable[[], bool] | None = None

    def watch_ending(self, is_ending: Callable[[], bool]) -> None:
        """Ask this from now on whether the server shuts down."""
        self._is_ending = is_ending
        if self._application is not None:
            self._application.watch_ending(is_ending)

    @property
    def slow_clients(self) -> SlowClients | None:
        """Where the server tells for which client it waits."""
        return self._application.slow_clients if self._application is not None else None

    @property
    def limit_watch(self) -> LimitWatch | None:
        """Who counts what the server itself refuses."""
        return self._application.limit_watch if self._application is not None else None

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        application = self._application
        if application is None:
            with self._lock:
                application = self._application
                if application is None:
                    application = create_app()
                    if self._is_ending is not None:
                        application.watch_ending(self._is_ending)
                    self._application = application
        return application(environ, start_response)


application = _LazyApplication()
