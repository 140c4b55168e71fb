"""The documentation says what the program does: its generated pages, its picture, its commands."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import version
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.golden import house, reference
from tests.golden.readme import SCREEN

DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
WRITTEN_BY_HAND = [page for page in PAGES if str(page.relative_to(ROOT))[5:] not in reference.PAGES]
NAV = re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text(encoding="utf-8"))
NEEDS_ENGINE = {"reference/kql.md"}
OTHER_ENGLISH = r"\b(mend|mends|mended|told|loudly|vouch\w*|whom|dossier|without a word)\b"


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.engine] * (n in NEEDS_ENGINE)) for n in reference.PAGES],
)
def test_a_generated_page_is_the_programs_own(name: str) -> None:
    drawn_by = version("typer").startswith("0.28") and version("rich").startswith("15.")
    if name == "reference/commands.md" and not drawn_by:
        pytest.skip("typer 0.28 and rich 15 draw this page")
    written = (DOCS / name).read_text(encoding="utf-8")
    assert reference.page(name) == written, "run: python -m tests.golden.refresh"


def test_the_picture_of_the_house_is_the_contracts() -> None:
    assert house.picture() == house.PICTURE.read_text(encoding="utf-8")
    page = house.PAGE.read_text(encoding="utf-8")
    assert house.with_rooms(page) == page
    rooms = [room for floor in house.floors() for room in floor]
    packages = {path.parent.name for path in (ROOT / "qakhunt").glob("*/__init__.py")}
    assert sorted(rooms) == sorted(packages), "a room is missing from the contract"
    assert all(house.about(room) for room in rooms)


def test_the_front_page_shows_the_readmes_picture() -> None:
    copy = (DOCS / "assets" / "screen.svg").read_text(encoding="utf-8")
    assert copy == SCREEN.read_text(encoding="utf-8")


def test_every_page_is_in_the_navigation() -> None:
    assert sorted(NAV) == sorted(str(p.relative_to(DOCS)) for p in PAGES if DOCS in p.parents)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_of_the_repository(page: Any) -> None:
    """Also those of the README, which the documentation's own check does not read."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_file_named_in_the_text_exists(page: Any) -> None:
    for name in re.findall(r"`((?:qakhunt|tests)/[\w/]+(?:\.\w+|/))`", page.read_text("utf-8")):
        assert (ROOT / name).exists(), name


def test_every_kind_and_document_is_explained() -> None:
    from qakhunt.answers.ledger import Status
    from qakhunt.run.config import SIGN_IN_KEYS
    from qakhunt.schedule.sinks import KINDS

    def rows(name: str) -> set[str]:
        return set(re.findall(r"^\| `([\w-]+)` \|", (DOCS / name).read_text("utf-8"), re.MULTILINE))

    assert set(SIGN_IN_KEYS) <= rows("guides/sign-in.md")
    assert set(KINDS) <= rows("guides/unattended.md")
    assert {str(status.value) for status in Status} <= rows("explanation/verdict.md")


def documented_commands() -> list[str]:
    """Each ``$ qakhunt ...`` of a console block, comments, pipes and redirections cut off."""
    found = set()
    for page in WRITTEN_BY_HAND:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^\s*(?:\$|- run:) (?:\.venv/bin/)?(qakhunt .*)$", text, re.M):
            found.add(re.split(r" #| 2>| \||  *>", line)[0].strip())
    return sorted(found)


def options_of(parameter: Any) -> list[str]:
    """Its names, and those that switch it off."""
    return [*parameter.opts, *parameter.secondary_opts]


def commands_below(command: Any) -> list[Any]:
    """The command and all commands of its groups."""
    names = command.list_commands(None) if hasattr(command, "list_commands") else []
    return [command, *(c for n in names for c in commands_below(command.get_command(None, n)))]


@pytest.mark.parametrize("page", WRITTEN_BY_HAND, ids=lambda page: str(page.relative_to(ROOT)))
def test_an_option_named_in_the_text_exists(page: Any) -> None:
    from typer.main import get_command

    from qakhunt.cli.app import app

    every = commands_below(get_command(app))
    known = {option for c in every for parameter in c.params for option in options_of(parameter)}
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    named = {
        o
        for code in re.findall(r"`([^`\n]+)`", text)
        for o in re.findall(r"(?<!\S)--[a-z-]+", code)
    }
    assert named <= known | {"--check"}


@pytest.mark.parametrize("line", documented_commands())
def test_a_documented_command_and_its_options_exist(line: str) -> None:
    from typer.main import get_command

    from qakhunt.cli.app import app

    command: Any = get_command(app)
    words = shlex.split(line)[1:]
    while hasattr(command, "get_command"):
        name = words.pop(0)
        command = command.get_command(None, name)
        assert command is not None, name
    known = {option for parameter in command.params for option in options_of(parameter)}
    used = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert used <= known | {"--help"}


@pytest.mark.parametrize("page", WRITTEN_BY_HAND, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_text_uses_the_fields_words(page: Any) -> None:
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert re.findall(OTHER_ENGLISH, prose) == []
