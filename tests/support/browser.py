"""A real browser without a window, for pages that must be inert and legible."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars",
)  # fmt: skip


def browser() -> str:
    """The browser's path; the test is skipped where there is none."""
    for name in _NAMES:
        found = shutil.which(name)
        if found:
            return found
    pytest.skip(f"no browser is here (looked for {', '.join(_NAMES)})")


def open_page(path: Path, *options: str, width: int = 1280, height: int = 900) -> str:
    """Open a page; what the browser prints (with ``--dump-dom``: the page as it is then)."""
    with tempfile.TemporaryDirectory(prefix="qakhunt-browser-") as profile:
        done = subprocess.run(
            [browser(), *_OPTIONS, f"--user-data-dir={profile}", f"--window-size={width},{height}",
             *options, path.resolve().as_uri()],
            capture_output=True, timeout=90, check=False,
        )  # fmt: skip
    return done.stdout.decode("utf-8", "replace")


def elements(dom: str) -> set[str]:
    """Names of all elements in a dumped page."""
    return set(re.findall(r"<([a-zA-Z][a-zA-Z0-9]*)[\s/>]", dom))
