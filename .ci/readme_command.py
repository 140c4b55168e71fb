"""Prints one of the README's two commands, so that what is documented is what runs.

python3 .ci/readme_command.py run|test
"""

import re
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def command(name: str) -> str:
    """The one line of the fenced block behind ``<!-- command: NAME -->``."""
    text = README.read_text(encoding="utf-8")
    found = re.search(rf"<!-- command: {name} -->\n```\n(.+)\n```\n", text)
    if not found:
        sys.exit(f"README.md has no command {name!r}")
    return found[1]


if __name__ == "__main__":
    print(command(sys.argv[1]))
