"""The pages of docs that the program writes: commands, keys, codes, formats, rules, KQL.

``python -m tests.golden.refresh`` puts them in place; tests/unit/test_docs.py compares them.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from tests.golden.python_page import python_api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SCHEMAS = ROOT / "qakhunt" / "data"
NOTE = "<!-- Written by python -m tests.golden.refresh from the program: do not edit. -->\n\n"


def help_of(name: str) -> str:
    """What ``qakhunt NAME --help`` prints, 80 columns wide."""
    from qakhunt.__main__ import run

    out = io.StringIO()
    with mock.patch("sys.stdout", out), mock.patch.dict(os.environ, {"COLUMNS": "80"}):
        run([*name.split(), "--help"])
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def command_names() -> list[str]:
    """Every command, those of groups as ``group command``."""
    from typer.main import get_command

    from qakhunt.cli.app import app

    group: Any = get_command(app)
    names = []
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        inner = getattr(command, "commands", None)
        names += [f"{name} {each}" for each in inner] if inner else [name]
    return names


def commands() -> str:
    """The help of each command."""
    parts = ["# Commands\n\nWhat `qakhunt COMMAND --help` prints.\n"]
    parts.append(f"```text\n{help_of('')}```\n")
    parts += [f"## qakhunt {name}\n\n```text\n{help_of(name)}```\n" for name in command_names()]
    return "\n".join(parts)


def exit_codes() -> str:
    """The exit codes with the text beneath each in its source."""
    from qakhunt.core import errors

    meanings = _attribute_texts(errors, "ExitCode")
    rows = [(str(int(code)), meanings[code.name]) for code in errors.ExitCode]
    return (
        "# Exit codes\n\n"
        "Of every command. A run's code follows from its [verdict](../explanation/verdict.md).\n\n"
        f"{_table(('Code', 'Meaning'), rows)}\n"
        "An error is one line on stderr: what is wrong, where (`file:line:column`), and a `hint:` "
        "that says how to fix it. Results go to stdout, everything else to stderr.\n"
    )


def _attribute_texts(module: Any, class_name: str) -> dict[str, str]:
    tree = ast.parse(inspect.getsource(module))
    (body,) = (n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == class_name)
    return {
        name.targets[0].id: ast.literal_eval(text.value)
        for name, text in zip(body, body[1:], strict=False)
        if isinstance(name, ast.Assign)
        and isinstance(name.targets[0], ast.Name)
        and isinstance(text, ast.Expr)
    }


def formats() -> str:
    """The table of export formats."""
    from qakhunt.reports.formats import FORMATS

    rows = [("`table`", "", "The screen.")]
    for each in FORMATS.values():
        about = (each.write.__doc__ or "").partition("\n")[0].replace("``", "`")
        rows.append((f"`{each.name}`", " ".join(f"`{s}`" for s in each.suffixes), about))
    return (
        "# Formats\n\n"
        "`--format NAME`, or the suffix of `--out`. A file appears whole or not at all, is its "
        "owner's alone, and replaces another only with `--force`.\n\n"
        f"{_table(('Format', 'Suffix', 'What it holds'), rows)}\n"
        "`--json` is the same as `--format json`. How CSV cells are guarded stands in "
        "[Safety](../explanation/safety.md#spreadsheets).\n"
    )


def lint_rules() -> str:
    """The lint rules, by severity's meaning."""
    from qakhunt.testing.lint.model import RULES, Severity

    meanings = "".join(f"- **{s.value}**: {s.meaning}.\n" for s in Severity)
    rows = [
        (f"`{r.code}`", r.name, r.severity.value, r.meaning, "yes" if r.fixable else "")
        for r in RULES.values()
    ]
    return (
        "# Lint rules\n\n"
        "What `qakhunt hunts lint` reports. Errors and warnings make the exit code 1.\n\n"
        f"{meanings}\n{_table(('Rule', 'Name', 'Severity', 'Meaning', '--fix'), rows)}\n"
        "Accept a finding, with a reason, by a comment: `// qakhunt-allow QH205: why` in the query "
        "for its own line and the next, `# qakhunt-allow QH205: why` in the YAML for the file.\n"
    )


def configuration() -> str:
    """Keys of the configuration file, kinds of sign-in and sinks, and the environment."""
    from qakhunt.run.config import SIGN_IN_KEYS, json_schema
    from qakhunt.run.settings import VARIABLES
    from qakhunt.schedule.sinks import KINDS

    definitions = json_schema()["$defs"]
    titles = {
        "ConfigFile": "The file",
        "Profile": "`[profiles.NAME]`",
        "SignIn": "`[profiles.NAME.sign_in]`",
        "Limits": "`[profiles.NAME.limits]`",
        "Schedule": "`[schedule]`",
    }
    parts = [
        "# Configuration\n\n`qakhunt config show` prints the values in force and where each came "
        "from; `qakhunt config schema` prints the JSON Schema that this page is made from. "
        "An example with every key stands [at the end](#an-example-with-every-key).\n"
    ]
    for name in sorted(definitions, key=lambda n: list(titles).index(n) if n in titles else 99):
        keys = [(f"`{k}`", _type(p), _default(p), p.get("description", ""))
                for k, p in definitions[name].get("properties", {}).items()]  # fmt: skip
        required = set(definitions[name].get("required", []))
        rows = [(k, t, "**required**" if k.strip("`") in required else d, w) for k, t, d, w in keys]
        parts.append(
            f"## {titles.get(name, name)}\n\n{_table(('Key', 'Type', 'Default', 'Meaning'), rows)}"
        )
    rows2 = [
        (f"`{kind}`", _names(needed) or "-", _names(optional) or "-")
        for kind, (needed, optional) in SIGN_IN_KEYS.items()
    ]
    parts.append(f"## Kinds of sign-in\n\n{_table(('kind', 'Needs', 'Also takes'), rows2)}")
    rows3 = [
        (f"`{k.name}`", f"`{k.form}`", _names(k.settings.__struct_encode_fields__) or "-")
        for k in KINDS.values()
    ]
    parts.append(f"## Kinds of sinks\n\n{_table(('kind', 'On the command line', 'Keys'), rows3)}")
    rows4 = [(f"`{v}`", f"`{k}` of the profile") for k, v in VARIABLES.items()]
    rows4 += [
        ("`QAKHUNT_CONFIG`", "The configuration file, as `--config`."),
        ("`QAKHUNT_HUNTS`", "A folder of hunts, as `--hunts`."),
        ("`QAKHUNT_KUSTO`", "The folder of Microsoft's parser, for `hunts lint`."),
    ]
    parts.append(
        "## Environment\n\nA flag overrides the environment, which overrides the profile.\n\n"
        f"{_table(('Variable', 'Sets'), rows4)}"
    )
    example = (ROOT / "config.example.toml").read_text(encoding="utf-8")
    parts.append(f"## An example with every key\n\n```toml\n{example}```\n")
    return "\n".join(parts)


def _type(key: dict[str, Any]) -> str:
    choices = [c for c in key.get("anyOf", [key]) if c.get("type") != "null"]
    return " or ".join(_one_type(c) for c in choices)


def _one_type(choice: dict[str, Any]) -> str:
    if "enum" in choice:
        return ", ".join(f"`{value}`" for value in choice["enum"])
    if "$ref" in choice:
        return "table"
    kind = str(choice.get("type", "any"))
    if kind == "array":
        return f"list of {choice['items'].get('type', 'value')}s"
    return {"object": "table"}.get(kind, kind)


def _default(key: dict[str, Any]) -> str:
    value = key.get("default")
    if value is None or value in ([], {}) or isinstance(value, dict):
        return "-"
    return f"`{json.dumps(value)}`"


def _public(names: Iterable[str]) -> list[str]:
    """In order, without what rewriting has for itself."""
    return sorted(name for name in names if not name.startswith("_"))


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


WITHOUT_SCHEMA = {
    "qakhunt.coverage": "`hunts coverage --json`: techniques that the hunts look for",
    "qakhunt.evaluate": "`evaluate --json`, and the evidence beside a hunt",
    "qakhunt.finding": "a finding, as sinks get it",
    "qakhunt.heartbeat": "one message per run, as sinks get it with `--heartbeat`",
    "qakhunt.hunts": "`hunts list --json`",
    "qakhunt.import": "`import-events --json`: what was imported, and what was not",
    "qakhunt.plan": "`run --dry-run --json`: the queries that would be sent, and their quota",
    "qakhunt.recording": "`manifest.json` of a recording",
    "qakhunt.runbook": "`manifest.json` of a runbook",
    "qakhunt.state": "`state show --json`",
}


def document_names() -> set[str]:
    """Every ``qakhunt.NAME/N`` that the source writes."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "qakhunt").rglob("*.py")]
    texts += [path.read_text(encoding="utf-8") for path in SCHEMAS.glob("*.schema.json")]
    return set(re.findall(r'"(qakhunt\.[a-z]+/\d+)"', "\n".join(texts)))


def json_schemas() -> str:
    """The JSON documents with a schema, and the keys of each."""
    named = set()
    parts = [
        "# JSON documents\n\nEach names itself in its key `schema`. The JSON Schemas ship with "
        "qakhunt in `qakhunt/data/`.\n"
    ]
    for path in sorted(SCHEMAS.glob("*.schema.json")):
        schema = json.loads(path.read_text(encoding="utf-8"))
        definitions = schema.get("$defs", {})
        whole = _resolved(schema, definitions)
        constant = whole["properties"].get("schema", {})
        name = constant.get("const") or (constant.get("enum") or [path.name[:-12]])[0]
        named.add(name)
        parts.append(f"## {name}\n\nSchema: `qakhunt/data/{path.name}`\n\n{_keys(whole)}")
        if name.startswith("qakhunt.run/"):
            parts += [
                f"### {name}: {title}\n\n{_keys(_resolved(inner, definitions))}"
                for title, inner in definitions.items() if inner.get("properties")
            ]  # fmt: skip
    others = sorted(document_names() - named)
    rows = [(f"`{name}`", WITHOUT_SCHEMA[name.partition("/")[0]]) for name in others]
    parts.append(f"## Without a JSON Schema\n\n{_table(('Document', 'What it is'), rows)}")
    return "\n".join(parts)


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref", "")
    return definitions[reference.rpartition("/")[2]] if reference else schema


def _keys(schema: dict[str, Any]) -> str:
    required = set(schema.get("required", []))
    rows = [
        (f"`{key}`", _shape(value), "yes" if key in required else "", value.get("description", ""))
        for key, value in schema.get("properties", {}).items()
    ]
    return _table(("Key", "Type", "Always", "Meaning"), rows)


def _shape(value: dict[str, Any]) -> str:
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_shape(v) for v in value["anyOf"]))
    if "$ref" in value:
        return str(value["$ref"]).rpartition("/")[2]
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{v}`" for v in value["enum"])
    kind = value.get("type", "any")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {_shape(value.get('items', {}))}"
    return str(kind)


OPERATORS = {
    "where": "where DeviceName == 'pc1'",
    "count": "count",
    "distinct": "distinct DeviceName",
    "extend": "extend x = 1",
    "project": "project DeviceName",
    "project-away": "project-away DeviceName",
    "project-away with patterns": "project-away Initiating*",
    "project-keep": "project-keep DeviceName",
    "project-rename": "project-rename Device = DeviceName",
    "project-reorder": "project-reorder DeviceName",
    "summarize": "summarize n = count() by DeviceName",
    "sort, order": "sort by TimeGenerated asc",
    "top": "top 1 by TimeGenerated",
    "top by several keys": "top 1 by DeviceName asc, TimeGenerated",
    "top-nested": "top-nested 1 of DeviceName by count()",
    "top-hitters": "top-hitters 1 of DeviceName",
    "take, limit": "take 1",
    "sample": "sample 1",
    "sample-distinct": "sample-distinct 1 of DeviceName",
    "join": "join kind=inner (DeviceProcessEvents | distinct DeviceName) on DeviceName",
    "lookup": "lookup (DeviceProcessEvents | distinct DeviceName) on DeviceName",
    "union": "union DeviceProcessEvents",
    "union of unlike types": "project x = 1 | union (DeviceProcessEvents | project x = DeviceName)",
    "mv-expand": "extend a = dynamic([1, 2]) | mv-expand a",
    "mv-expand of an expression": "mv-expand split(ProcessCommandLine, ' ')",
    "mv-apply": "extend a = dynamic([1, 2]) | mv-apply a on (summarize n = sum(toint(a)))",
    "parse": "parse ProcessCommandLine with * 'who' Rest",
    "parse-where": "parse-where ProcessCommandLine with * 'who' Rest",
    "parse-kv": "parse-kv ProcessCommandLine as (a: string) with (pair_delimiter=' ', kv_delimiter='=')",
    "parse-kv without delimiters, or greedy": "parse-kv ProcessCommandLine as (a: string)",
    "make-series": "make-series n = count() on TimeGenerated step 1d",
    "evaluate bag_unpack": "extend b = dynamic({'a': 1}) | evaluate bag_unpack(b)",
    "evaluate pivot": "project DeviceName, ActionType | evaluate pivot(ActionType)",
    "evaluate narrow": "project DeviceName | evaluate narrow()",
    "evaluate ipv4_lookup": "extend ip = '10.0.0.1' | evaluate ipv4_lookup((print net = '10.0.0.0/8'), ip, net)",
    "evaluate, other plugins": "evaluate basket()",
    "invoke FileProfile": "invoke FileProfile(SHA1)",
    "invoke of another function": "invoke DeviceProfile(DeviceId)",
    "serialize": "serialize",
    "serialize with columns": "serialize n = row_number()",
    "as": "as T",
    "getschema": "getschema",
    "partition": "partition by DeviceName (take 1)",
    "scan": "scan with (step s: true;)",
    "search": "search 'whoami'",
    "a term in any column": "where * has 'whoami'",
    "reduce": "reduce by ProcessCommandLine",
    "facet": "facet by DeviceName",
    "fork": "fork (count) (take 1)",
    "consume": "consume",
    "render": "render table",
}
"""Tabular operator -> a use of it behind ``DeviceProcessEvents |``."""

OTHERS = {
    "let with a value": "let n = 1; DeviceProcessEvents | where strlen(DeviceName) > n",
    "let with a table": "let T = DeviceProcessEvents | take 1; T",
    "let with a function": "let f = (x: string) { strlen(x) }; DeviceProcessEvents | extend n = f(DeviceName)",
    "let with a function that gives a table": "let f = () { DeviceProcessEvents }; f() | count",
    "let with a function that takes a table": "let f = (T: (DeviceName: string), n: long) { T | take n }; DeviceProcessEvents | invoke f(1)",
    "names that differ in case only": "DeviceProcessEvents | extend devicename = tolower(DeviceName)",
    "print": "print x = 1",
    "range": "range x from 1 to 3 step 1",
    "datatable": "datatable (x: int) [1, 2]",
    "externaldata": "externaldata (x: string) ['https://example.invalid/x.csv']",
    "find": "find in (DeviceProcessEvents) where DeviceName == 'pc1'",
    "search in": "search in (DeviceProcessEvents) 'whoami'",
    "union as the source": "union DeviceProcessEvents, DeviceProcessEvents",
    "union in brackets as the source": "(union DeviceProcessEvents, DeviceProcessEvents)",
    "toscalar": "let n = toscalar(DeviceProcessEvents | count); print n",
    "materialize": "let T = materialize(DeviceProcessEvents); T | count",
    "_GetWatchlist": "_GetWatchlist('hosts')",
    "workspace(), cluster(), database()": "workspace('other').DeviceProcessEvents",
    "bin": "DeviceProcessEvents | summarize count() by bin(TimeGenerated, 7d)",
    "bin_at": "DeviceProcessEvents | extend t = bin_at(TimeGenerated, 1d, datetime(2026-01-01))",
    "between": "DeviceProcessEvents | where TimeGenerated between (ago(1d) .. now())",
    "in, in~, has_any, has_all": "DeviceProcessEvents | where DeviceName in~ ('pc1') and ProcessCommandLine has_any ('a') and ProcessCommandLine has_all ('a')",
    "matches regex": "DeviceProcessEvents | where DeviceName matches regex '^pc'",
    "case": "DeviceProcessEvents | extend x = case(DeviceName == 'pc1', 1, 2)",
    "hash(x, n)": "DeviceProcessEvents | where hash(DeviceName, 8) == 1",
    "hash(x)": "DeviceProcessEvents | extend h = hash(DeviceName)",
    "prev, next": "DeviceProcessEvents | sort by TimeGenerated asc | extend p = prev(DeviceName)",
    "row_number, row_cumsum": "DeviceProcessEvents | sort by TimeGenerated asc | extend n = row_number(), c = row_cumsum(1)",
    "row_rank_dense, row_rank_min": "DeviceProcessEvents | sort by DeviceName asc | extend a = row_rank_dense(DeviceName), b = row_rank_min(DeviceName)",
    "row_window_session": "DeviceProcessEvents | sort by TimeGenerated asc | extend s = row_window_session(TimeGenerated, 1h, 5m)",
    "a window function over rows in no order": "DeviceProcessEvents | extend n = row_number()",
    "series_stats, series_fit_line": "print x = dynamic([1, 2]) | extend (least) = series_stats(x), (r, slope) = series_fit_line(x)",
    "make_set_if, make_list_if": "DeviceProcessEvents | summarize s = make_set_if(DeviceName, true), l = make_list_if(DeviceName, true)",
    "datetime_diff, datetime_add": "DeviceProcessEvents | extend d = datetime_diff('hour', now(), TimeGenerated), e = datetime_add('day', 1, TimeGenerated)",
    "column_ifexists": "DeviceProcessEvents | extend x = column_ifexists('Nothing', '')",
    "pack_all": "DeviceProcessEvents | extend x = pack_all()",
    "ipv4_is_private, ipv4_is_in_range": "print a = ipv4_is_private('10.0.0.1'), b = ipv4_is_in_range('10.0.0.1', '10.0.0.0/8')",
    "parse_command_line": "DeviceProcessEvents | extend x = parse_command_line(ProcessCommandLine, 'windows')",
    "geo_info_from_ip_address": "print geo_info_from_ip_address('10.0.0.1')",
    "ingestion_time": "DeviceProcessEvents | where ingestion_time() > ago(1d)",
}  # fmt: skip
"""Other construct -> a whole query with it."""


APPROXIMATIONS = """\
### Approximated

- `ingestion_time()` is the record's own time, and the verdict is `incomplete`.
- `FileProfile()` enriches every record, whatever number it is given; a file of which there are
  several records has one of them.
- `sample` and `sample-distinct` give the first rows, not random ones.
- Rows that a `sort` leaves level come in the order of their columns before a window function
  sees them; `serialize` keeps the order of the records.
- A union takes `int` and `long` for one type; Kusto splits the column.
- `search` and `find` without tables cover the tables that are loaded.
- `bag_unpack()` and `pivot()` without a schema take their columns from the records at hand, in
  the order of their names, as the services do; at most 1,000.
- A subquery of `mv-apply` and `partition` may filter, extend, project, summarize, count, sort,
  take, parse, expand and be made distinct; other operators are refused there.
- `isfuzzy=true` leaves out a table that is not known, and the verdict is `incomplete`.
- A function with a table in it is put in where it is called, at most 200 times.
"""
"""What is answered near enough, and how it differs."""


def kql() -> str:
    """What the embedded engine answers and refuses, found by asking it, and its limits."""
    from duckdb_kql.translate import functions

    from qakhunt.backends.engine import limits

    asked = {n: f"DeviceProcessEvents | {q}" for n, q in OPERATORS.items()} | OTHERS
    refusals = _refusals(asked)  # also installs the corrections, which add functions
    rows = [(name, refusals.get(name, "yes"), _code(asked[name])) for name in asked]
    sizes = [
        ("characters of the query", f"{limits.MAX_CHARACTERS:,}"),
        ("words, literals and signs", f"{limits.MAX_TOKENS:,}"),
        ("operators (steps of all pipelines)", f"{limits.MAX_OPERATORS:,}"),
        ("terms in one expression", f"{limits.MAX_TERMS:,}"),
        ("brackets inside each other", f"{limits.MAX_DEPTH:,}"),
        ("characters of the SQL that the query becomes", f"{limits.MAX_SQL:,}"),
        ("seconds that translation may take", f"{limits.MAX_TRANSLATION:g}"),
        ("memory, unless `--memory-limit` says otherwise", limits.DEFAULT_MEMORY),
    ]
    return (
        "# KQL in the embedded engine\n\n"
        "Log Analytics and Defender run any KQL that they accept: qakhunt sends the query as it "
        "is. The embedded engine (`--backend local`, test cases, `diff`, replays on source rows) "
        "translates KQL to SQL and supports what this page lists. Anything else is refused by "
        "name, with its line; nothing is skipped. What only the service knows is null, and the "
        "verdict says so: those rows say *incomplete without*. The refusal of a construct that the query needs "
        "on recorded events is `QH501` in `qakhunt hunts lint`.\n\n"
        "## Operators and constructs\n\nEach row was found by running the example.\n\n"
        f"{_table(('Construct', 'Answers', 'Example'), rows)}\n"
        f"{APPROXIMATIONS}\n## Functions\n\nBeside those above:\n\n{_names(_public(functions.SCALAR_FUNCTIONS))}\n\n"
        f"## Aggregates\n\n{_names(sorted(functions.AGGREGATE_FUNCTIONS))}\n\n"
        f"## Limits\n\nA query beyond one of these is refused with the limit's name.\n\n"
        f"{_table(('Limit', 'Value'), sizes)}\n"
        "Times are computed at microseconds; the services keep 100 ns.\n"
    )


def _refusals(queries: dict[str, str]) -> dict[str, str]:
    from qakhunt.backends.engine.external import ExternalFiles
    from qakhunt.backends.engine.session import EngineRefused, Session
    from qakhunt.kql.values import Instant, Window

    start, now = Instant.parse("2026-10-01T00:00:00Z"), Instant.parse("2026-11-01T00:00:00Z")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder) / "DeviceProcessEvents.ndjson"
        events.write_text(
            '{"TimeGenerated": "2026-10-10T00:00:00Z", "DeviceName": "pc1", '
            '"ProcessCommandLine": "whoami /all"}\n',
            encoding="utf-8",
        )
        listed = Path(folder) / "x.csv"
        listed.write_text("a\n", encoding="utf-8")
        files = ExternalFiles([f"https://example.invalid/x.csv={listed}"])
        session = Session([str(events)], "log-analytics", external=files)
        for name, query in queries.items():
            try:
                session.ask(query, now=now, window=Window(start, now))
                if session.unknown:
                    found[name] = _incomplete(session.unknown[0])
            except EngineRefused as problem:
                words = problem.message.partition("\n")[0]
                words = words.replace("the embedded engine does not support ", "")
                named = re.fullmatch(r"the operator '[\w-]+'|\w+\(\)", words)
                found[name] = "**no**" if named else f"**no**: {_cell(words)}"
        session.close()
    return found


def _incomplete(words: str) -> str:
    given = re.search(r"--events \w+=PATH", words)
    return f"incomplete without `{given[0]}`" if given else f"incomplete: {_cell(words)}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _code(text: str) -> str:
    """Code in a cell of a table, where a backtick would not keep a pipe or a bracket."""
    plain = re.sub(r"[|\[\]*_<>&]", lambda sign: f"&#{ord(sign[0])};", text)
    return f"<code>{plain}</code>"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def emulator() -> str:
    """The emulator's own page, which ships with the package."""
    return (ROOT / "qakhunt" / "testing" / "emulator" / "README.md").read_text(encoding="utf-8")


def s0650_page() -> str:
    """S0650's techniques beside the hunts."""
    from tests.golden import s0650

    return s0650.page()


PAGES: dict[str, Callable[[], str]] = {
    "guides/emulator.md": emulator,
    "reference/commands.md": commands,
    "reference/configuration.md": configuration,
    "reference/exit-codes.md": exit_codes,
    "reference/formats.md": formats,
    "reference/json.md": json_schemas,
    "reference/lint-rules.md": lint_rules,
    "reference/s0650.md": s0650_page,
    "reference/kql.md": kql,
    "reference/python.md": python_api,
}
"""Page under docs -> what writes it; ``kql`` needs the embedded engine."""


def page(name: str) -> str:
    """The page's whole text."""
    title, _, rest = PAGES[name]().partition("\n\n")
    return f"{title}\n\n{NOTE}{rest}"
