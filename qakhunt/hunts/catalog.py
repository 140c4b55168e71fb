"""Finding hunts by name, id, path or the name of a set; and the text of a new one."""

from __future__ import annotations

import re
import uuid
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from qakhunt.core.errors import HuntError, UsageError, nearest
from qakhunt.core.locations import queries_folder
from qakhunt.hunts.loading import is_hunt_file, load_hunt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.hunts.model import Hunt

DEFAULT_HUNT = "qakbot-post-compromise-commands"
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


class Catalog(msgspec.Struct, frozen=True):
    """Hunts of the user's folders, in order, then the built-in ones.

    A hunt in an earlier folder hides one of the same name in a later.
    """

    folders: tuple[Path, ...] = ()

    def paths(self) -> dict[str, tuple[Path, str]]:
        """Hunt name -> its file and its source (a folder, or ``built-in``)."""
        found: dict[str, tuple[Path, str]] = {}
        for folder in self.folders:
            if not folder.is_dir():
                raise UsageError(f"no such folder of hunts: {folder}")
            self._collect(folder, str(folder), found)
        self._collect(queries_folder(), "built-in", found)
        return found

    def hidden(self) -> list[str]:
        """One sentence for each hunt that another of the same name hides."""
        if not self.folders:
            return []
        taken = self.paths()
        sentences = []
        for folder in [*self.folders, queries_folder()]:
            for path in _hunt_files(folder):
                used = taken[path.stem][0]
                if path.resolve() != used.resolve():
                    sentences.append(f"the hunt {path.stem} is {used}, which hides {path}")
        return sentences

    @staticmethod
    def _collect(folder: Path, source: str, found: dict[str, tuple[Path, str]]) -> None:
        for path in _hunt_files(folder):
            found.setdefault(path.stem, (path, source))

    def all(self) -> list[Hunt]:
        """Every hunt, loaded, by name."""
        return [load_hunt(path, source) for _, (path, source) in sorted(self.paths().items())]

    def find(self, wanted: str) -> list[Hunt]:
        """The hunt of that path (``page.md#2``), name or id, or the hunts of that set.

        Raises UsageError with the nearest name when there is none.
        """
        page, _, number = wanted.rpartition("#")
        if page.endswith(".md") and number.isdigit() and Path(page).exists():
            return [load_hunt(Path(page), number=int(number))]
        as_path = Path(wanted)
        if as_path.suffix and as_path.exists():
            return [load_hunt(as_path)]
        if "/" in wanted or "\\" in wanted:
            raise HuntError(f"no such file: {wanted}")
        paths = self.paths()
        if wanted in paths:
            return [load_hunt(*paths[wanted])]
        hunts = self.all()
        by_id = [hunt for hunt in hunts if hunt.id and hunt.id.lower() == wanted.lower()]
        members = by_id or [hunt for hunt in hunts if wanted in hunt.notes.sets]
        if members:
            return members
        sets = {name for hunt in hunts for name in hunt.notes.sets}
        raise UsageError(
            f"no hunt named {wanted!r}",
            hint=nearest(wanted, [*paths, *sets]) or "'qakhunt hunts list' names them all",
        )

    def find_all(self, wanted: Sequence[str]) -> list[Hunt]:
        """All hunts of the given names, each once, in order; none named: the default."""
        found: dict[str, Hunt] = {}
        for name in wanted or [DEFAULT_HUNT]:
            for hunt in self.find(name):
                found.setdefault(f"{hunt.path}#{hunt.name}", hunt)
        return list(found.values())


def _hunt_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file() and is_hunt_file(path)]


def new_hunt(name: str) -> tuple[str, str]:
    """The texts of a new hunt's file, with an id of its own, and of its test cases.

    Raises UsageError for a name that is no good file name everywhere.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a hunt", hint="use lower case letters, digits and hyphens"
        )
    data = files("qakhunt").joinpath("data")
    hunt, cases = (
        data.joinpath(file).read_text(encoding="utf-8")
        for file in ("new_hunt.yaml", "new_hunt_cases.yaml")
    )
    title = name.replace("-", " ").capitalize()
    hunt = hunt.replace("@@ID@@", str(uuid.uuid4())).replace("@@TITLE@@", title)
    return hunt, cases.replace("@@NAME@@", name)
