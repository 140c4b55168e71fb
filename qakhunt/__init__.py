"""qakhunt: hunts in plain KQL for Microsoft Sentinel and Microsoft Defender.

    import qakhunt

    result = qakhunt.run("qakbot-post-compromise-commands", events="export.csv", window="30d")

What the command line does, these names do; ``qakhunt.cli.api`` holds them, loaded when first used.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qakhunt.cli.api import (
        QakhuntError,
        Result,
        Verdict,
        diff,
        hunts,
        render,
        run,
        test,
    )

__version__ = "0.1.0"

__all__ = ["QakhuntError", "Result", "Verdict", "diff", "hunts", "render", "run", "test"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'qakhunt' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("qakhunt.cli.api"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Package(ModuleType):
    """Keeps ``run`` and ``hunts`` functions: an import of a subpackage sets its name here."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
