"""``qakhunt emulate``: the services on loopback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from qakhunt.cli import options as o
from qakhunt.cli.options import Panel
from qakhunt.core.errors import QakhuntError, UsageError

if TYPE_CHECKING:
    from qakhunt.testing.emulator.scenario import LoadedScenario

LOOPBACK = "127.0.0.1"


def emulate(
    events: Annotated[
        o.Texts,
        Panel.events(
            "--events", metavar="[TABLE=]PATH",
            help="Serve recorded events as one tenant with one workspace; accepts any token.",
        ),
    ] = None,
    scenario: Annotated[
        o.File,
        Panel.events(
            "--scenario", metavar="FILE",
            help="Serve the tenants, workspaces, limits and faults of a scenario file (YAML).",
        ),
    ] = None,
    no_faults: Annotated[
        bool, Panel.events("--no-faults", help="Leave out the scenario's faults and throttles.")
    ] = False,
    no_limits: Annotated[
        bool,
        Panel.server("--no-limits", help="Do not throttle as the services document, for speed."),
    ] = False,
    now: o.Now = None,
    host: Annotated[
        str, Panel.server("--host", metavar="ADDRESS", help="Address to listen on.")
    ] = LOOPBACK,
    port: Annotated[
        int,
        Panel.server(
            "--port", metavar="N", min=0, max=65535, help="Port to listen on; 0 is any free port."
        ),
    ] = 8443,
    expose: Annotated[
        bool, Panel.server("--expose", help="Allow a --host that other machines can reach.")
    ] = False,
    tls: Annotated[
        bool, Panel.server("--tls", help="Serve https with a certificate made for this run.")
    ] = False,
    ca_file: Annotated[
        o.File, Panel.server("--ca-file", metavar="PATH", help="Write the CA of --tls here.")
    ] = None,
    list_faults: Annotated[
        bool, Panel.output("--list-faults", help="List the faults of scenarios and exit.")
    ] = False,
) -> int:  # fmt: skip
    """Serve recorded events as Log Analytics, Microsoft Graph and Entra ID on loopback.

    Prints one line of JSON when it is ready, and serves until it is stopped.
    """
    if list_faults:
        _list_faults()
        return 0
    _require_server()
    from qakhunt.backends.clouds import is_loopback
    from qakhunt.testing.emulator.server import Emulator

    if not is_loopback(host) and not expose:
        raise UsageError(
            f"{host} can be reached from other machines",
            hint="the emulator lets anybody in: add --expose if that is what you want",
        )
    if ca_file is not None and not tls:
        raise UsageError("--ca-file is for --tls")
    loaded = _loaded(events, scenario).at(now)
    if no_faults:
        loaded = loaded.without_faults()
    emulator = Emulator(
        loaded, host=host, port=port, tls=tls, ca_file=ca_file, limits=not no_limits
    )

    def ready() -> None:
        print(json.dumps(emulator.ready_line()), flush=True)

    emulator.serve(ready)
    return 0


def _list_faults() -> None:
    from qakhunt.testing.emulator.faults import FAULTS

    width = max(map(len, FAULTS))
    for name, fault in FAULTS.items():
        print(f"{name:<{width}}  {fault.summary}")


def _loaded(events: list[str] | None, scenario: Path | None) -> LoadedScenario:
    from qakhunt.testing.emulator.scenario import load_scenario, single_tenant

    if scenario is not None:
        if events:
            raise UsageError("--events and --scenario exclude each other",
                             hint="a scenario names its events itself")  # fmt: skip
        return load_scenario(scenario)
    if not events:
        raise UsageError("there is nothing to serve", hint="name --events or a --scenario")
    return single_tenant(events)


def _require_server() -> None:
    try:
        import starlette  # noqa: F401
        import trustme  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as problem:
        raise QakhuntError(
            f"the emulator is not installed: {problem.name} is missing",
            hint="pip install 'qakhunt[emulator]'",
        ) from None
