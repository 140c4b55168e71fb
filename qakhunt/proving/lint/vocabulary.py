"""The language's own functions, and the names that only a workspace knows."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files

# Tables and functions that a workspace brings along, or that only the service knows.
_FOREIGN = re.compile(
    r".*_CL|_GetWatchlist.*|_Im_.*|_ASim_.*|ASim[A-Z].*|im[A-Z].*|FileProfile|DeviceFromIP|"
    r"workspace|app|resource|table|database|cluster|arg|adx"
)


@cache
def function_names() -> frozenset[str]:
    """Every function, aggregate and plugin of the language."""
    text = files("qakhunt.data").joinpath("kql_functions.json").read_text(encoding="utf-8")
    data = json.loads(text)
    names = [*data["functions"], *data["aggregates"], *data["plugins"]]
    return frozenset([*names, "typeof", "materialize", "toscalar"])


def is_foreign(name: str) -> bool:
    """Whether a name can be one that only the workspace or the service knows."""
    return _FOREIGN.fullmatch(name) is not None
