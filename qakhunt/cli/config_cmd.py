"""``qakhunt config``: the values in force, and the schema for editors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from qakhunt.cli import options as o
from qakhunt.cli import profiles as p
from qakhunt.core.safe_text import for_json, for_terminal
from qakhunt.run.config import user_folder
from qakhunt.run.settings import shown

if TYPE_CHECKING:
    from qakhunt.run.config import Config
    from qakhunt.run.settings import ProfileSettings

app = o.new_app(no_args_is_help=True)


@app.callback()
def config() -> None:
    """The configuration."""


@app.command()
def show(
    config: p.ConfigPath = None,
    profile: p.ProfileNames = None,
    group: p.GroupName = None,
    all_profiles: p.AllProfiles = False,
    as_json: o.AsJson = False,
) -> None:
    """Show the values in force and where each came from; without a profile, all of them."""
    file = p.read_config(config)
    choice = p.Choice(profile or (), group, all_profiles)
    if file is not None and not choice:
        choice = p.Choice(everything=True)
    settings = p.chosen_profiles(file, choice)
    if as_json:
        print(for_json(json.dumps(_document(file, settings), ensure_ascii=False, indent=2)))
        return
    print(f"file: {for_terminal(str(file.path)) if file else 'none'}")
    print(f"user folder: {for_terminal(str(user_folder()))}")
    if file is not None:
        _show_head(file)
    for one in settings:
        print(f"\n[{for_terminal(one.name)}]")
        lines = shown(one)
        key_width = max(len(key) for key, _, _ in lines)
        value_width = max(len(for_terminal(value)) for _, value, _ in lines)
        for key, value, source in lines:
            text = for_terminal(value)
            print(f"{key:<{key_width}}  {text:<{value_width}}  {for_terminal(source)}")


def _show_head(file: Config) -> None:
    for key in ("default_profile", "deadline"):
        value = getattr(file.file, key)
        if value is not None:
            print(f"{key}: {for_terminal(value)}")
    for name, members in file.file.groups.items():
        print(for_terminal(f"group {name}: {', '.join(members)}"))
    missing = file.missing_tenants()
    if missing:
        print(for_terminal(f"expected tenants without a profile: {', '.join(missing)}"))


def _document(file: Config | None, settings: list[ProfileSettings]) -> dict[str, object]:
    return {
        "file": str(file.path) if file else None,
        "expected_tenants_without_profile": file.missing_tenants() if file else [],
        "profiles": {
            one.name: {key: {"value": value, "source": source} for key, value, source in shown(one)}
            for one in settings
        },
    }


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from qakhunt.run.config import json_schema

    print(json.dumps(json_schema(), indent=2))
