"""docs/reference/python.md: the names of ``import qakhunt`` and what they give, from the source."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any

INTRODUCTION = """\
# Python

```python
import qakhunt

result = qakhunt.run("qakbot-post-compromise-commands", events="export.csv", window="30d")
if result.verdict is not qakhunt.Verdict.CLEAN:
    for finding in result.findings:
        print(finding.device, finding.account, finding.start, finding.hunts)
```

`run`, `render`, `test` and `diff` call what the commands of the same name call, so queries,
answers and errors are the same; `hunts` is the list behind `qakhunt hunts list`. The package is
typed (`py.typed`), and `import qakhunt` loads a function when it is first used. A notebook shows a
`Result` as a table, escaped like the reports; a [notebook to start
from](../examples/first-hunt.ipynb) is run by the tests, in a kernel too.

`profile="contoso"` takes the configuration and the sign-in that `qakhunt login` keeps;
`events=` and the bundled sample need neither.

A mistake raises `QakhuntError`, with `message`, `location` and `hint`. What a tenant did not answer
raises nothing: it stands in the ledger, and `verdict` is `incomplete` or `failed`.

`to_arrow`, `to_pandas` and `to_polars` need an extra each: `pip install 'qakhunt[pandas]'`.

Below, `Named` is text or a path, `Names` one or several of them; `Moment` is text such as
`2026-10-01T09:00:00Z` or a `datetime`, in UTC where it has no zone.
"""


def python_api() -> str:
    """Every exported name, then the types of what the functions give."""
    import qakhunt
    from qakhunt.answers.findings import Finding
    from qakhunt.answers.hits import Hit
    from qakhunt.answers.ledger import Ledger, LedgerLine, Status
    from qakhunt.hunts.model import Hunt
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.testing.case_runner import CaseResult, Outcome
    from qakhunt.testing.compare import Comparison, HitChange

    exported = [getattr(qakhunt, name) for name in qakhunt.__all__]
    given = [
        Hit, Finding, Ledger, LedgerLine, Status, RenderedQuery, Hunt, CaseResult, Outcome,
        Comparison, HitChange,
    ]  # fmt: skip
    functions = [_function(each) for each in exported if inspect.isfunction(each)]
    classes = [_class(each) for each in exported if inspect.isclass(each)]
    return "\n".join([
        INTRODUCTION, *functions, *classes,
        "## What the functions give\n\nTimes are `Instant`: `isoformat()`, `to_datetime()`.\n",
        *(_class(each, level="###") for each in given),
    ])  # fmt: skip


def _function(function: Any) -> str:
    source = textwrap.dedent(inspect.getsource(function))
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.FunctionDef)
    head = "\n".join(source.splitlines()[: node.body[0].lineno - 1]).removesuffix(":")
    return f"## {function.__name__}\n\n```python\n{head}\n```\n\n{_text(function)}\n"


def _class(of: Any, level: str = "##") -> str:
    node = ast.parse(textwrap.dedent(inspect.getsource(of))).body[0]
    assert isinstance(node, ast.ClassDef)
    fields = [text for item in node.body if (text := _field(item))]
    rows = [row for item in node.body if (row := _member(item))]
    parts = [f"{level} {of.__name__}", _text(of)]
    parts += [f"Fields: {', '.join(fields)}."] if fields else []
    parts += ["| Name | Type | Meaning |\n|---|---|---|\n" + "\n".join(rows)] if rows else []
    return "\n\n".join(parts) + "\n"


def _field(item: ast.stmt) -> str:
    """A dataclass's field with its type, or an enumeration's value."""
    if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
        return f"`{item.target.id}: {ast.unparse(item.annotation)}`"
    if isinstance(item, ast.Assign) and isinstance(item.value, ast.Constant):
        target = ast.unparse(item.targets[0])
        return f"`{target} = {item.value.value!r}`" if target.isupper() else ""
    return ""


def _member(item: ast.stmt) -> str:
    """A row for a property or a method that is not private."""
    if not isinstance(item, ast.FunctionDef) or item.name.startswith("_"):
        return ""
    is_property = any(isinstance(d, ast.Name) and d.id == "property" for d in item.decorator_list)
    arguments = ", ".join(argument.arg for argument in item.args.args[1:])
    name = item.name if is_property else f"{item.name}({arguments})"
    returned = ast.unparse(item.returns).replace("|", "\\|") if item.returns else ""
    meaning = _plain(ast.get_docstring(item) or "").replace("\n", " ")
    return f"| `{name}` | `{returned}` | {meaning} |"


def _text(of: Any) -> str:
    return _plain(inspect.cleandoc(of.__doc__ or ""))


def _plain(text: str) -> str:
    return text.replace("``", "`")
