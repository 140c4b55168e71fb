"""What the package says of its home, which only a release knows.

QAKHUNT_REPOSITORY is the address of the repository that builds it, as the release workflow sets
it, such as https://github.com/OWNER/NAME. From it come the project URLs, and the README's links
and pictures become absolute, so that they also lead somewhere on an index page. Without it the
README stays as it is and there are no URLs.
"""

from __future__ import annotations

import os
import re
from email.parser import Parser
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)\s]+)\)")


class CustomMetadataHook(MetadataHookInterface):
    """Fills ``readme`` and ``urls``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Called by hatchling for each build."""
        home = (os.environ.get("QAKHUNT_REPOSITORY") or self._recorded()).rstrip("/")
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        if home:
            text = absolute(text, home, f"v{metadata['version']}")
            metadata["urls"] = {
                "Repository": home,
                "Documentation": f"{home}/blob/v{metadata['version']}/docs/index.md",
                "Changelog": f"{home}/blob/v{metadata['version']}/CHANGELOG.md",
                "Issues": f"{home}/issues",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}

    def _recorded(self) -> str:
        """What the source distribution says that this is built from, or nothing."""
        path = Path(self.root, "PKG-INFO")
        if not path.is_file():
            return ""
        found = Parser().parsestr(path.read_text(encoding="utf-8")).get_all("Project-URL") or []
        return next((u.partition(", ")[2] for u in found if u.startswith("Repository, ")), "")


def absolute(text: str, home: str, revision: str) -> str:
    """Markdown whose relative links lead to the repository as of a revision."""

    def replaced(match: re.Match[str]) -> str:
        picture, words, target = match.groups()
        kind = "raw" if picture else "blob"
        return f"{picture}[{words}]({home}/{kind}/{revision}/{target})"

    return _LINK.sub(replaced, text)
