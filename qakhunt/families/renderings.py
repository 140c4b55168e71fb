"""The text that Defender records for a command, by how it was started and spelled."""

from __future__ import annotations

from qakhunt.families.data import families

RENDERINGS = (
    "direct", "cmd", "powershell", "oneliner", "extension", "quoted", "case", "caret", "batch",
)  # fmt: skip


def rendered(issued: str, rendering: str) -> str:
    """The command line of the command's own process, in one of ``RENDERINGS``.

    ``issued`` is the command as public reports show it. A process that cmd starts
    has two spaces after its name; carets never reach it.
    """
    file, space, arguments = issued.partition(" ")
    stem = file.removesuffix(".exe")
    if rendering == "direct":
        return issued
    if rendering in ("cmd", "caret", "batch"):
        return f"{file}  {arguments}" if space else f"{file}  "
    if rendering in ("powershell", "oneliner"):
        return f'"{stem}.exe"{space}{arguments}'
    if rendering == "extension":
        return f"{stem}.exe{space}{arguments}"
    if rendering == "quoted":
        return f'"{file}"{space}{arguments}'
    if rendering == "case":
        return _other_case(issued)
    raise ValueError(f"not a rendering: {rendering!r}")


def wrapping(issued: str, rendering: str) -> str | None:
    """The command line of the shell around one command, or None where there is none."""
    if rendering == "cmd":
        return f"cmd.exe /c {issued}"
    if rendering == "caret":
        return f"cmd.exe /c {_with_carets(issued)}"
    if rendering == "oneliner":
        return f'powershell.exe -NoProfile -Command "{issued}"'
    return None


def renderings_of(issued: str) -> dict[str, tuple[str, ...]]:
    """Rendering -> the command lines that tell of the command, that of ``cmd /c`` first."""
    found: dict[str, tuple[str, ...]] = {}
    for rendering in RENDERINGS:
        wrapper = wrapping(issued, rendering) if rendering != "oneliner" else None
        line = rendered(issued, rendering)
        found[rendering] = (wrapper, line) if wrapper else (line,)
    return found


def known_commands() -> list[str]:
    """Every command that public reports show, as issued, each once."""
    listed = [line for family in families().families.values() for line in family.issued]
    return list(dict.fromkeys(listed))


def _other_case(text: str) -> str:
    """Every second letter in the other case."""
    return "".join(c.swapcase() if n % 2 else c for n, c in enumerate(text))


def _with_carets(text: str) -> str:
    """A caret inside every word of letters."""
    return " ".join(
        f"{w[0]}^{w[1:]}" if w[:1].isalpha() and len(w) > 2 else w for w in text.split(" ")
    )
