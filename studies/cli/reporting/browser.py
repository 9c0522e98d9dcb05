"""Open a page in a web browser once its server answers: ``python -m studies.cli.reporting.browser ADDRESS``."""

from __future__ import annotations

import socket
import sys
import time
import webbrowser
from urllib.parse import urlsplit

MAX_WAIT_SECONDS = 120.0  # MLflow's server takes 4 s to start, and longer on a machine under load


def open_when_ready(address: str, max_wait_seconds: float = MAX_WAIT_SECONDS) -> bool:
    """Wait for the server of a page, and open the page; returns whether that worked."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    give_up_at = time.monotonic() + max_wait_seconds
    while time.monotonic() < give_up_at:
        try:
            socket.create_connection((parts.hostname or "", port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return webbrowser.open(address)
    return False


if __name__ == "__main__":
    open_when_ready(sys.argv[1])
