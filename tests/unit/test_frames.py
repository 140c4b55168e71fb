"""The hits as Arrow, pandas and Polars tables; without the library, the extra that brings it."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

import qakhunt
from qakhunt.reports.formats import flat_table
from tests.support.hostile import COLUMNS, ROWS, result_of

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("library", "extra", "call"),
    [
        ("pyarrow", "arrow", qakhunt.Result.to_arrow),
        ("pandas", "pandas", qakhunt.Result.to_pandas),
        ("polars", "polars", qakhunt.Result.to_polars),
    ],
)
def test_without_the_library_the_extra_is_named(
    library: str, extra: str, call: Callable[[qakhunt.Result], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(qakhunt.QakhuntError, match=f"{library} is not installed") as problem:
        call(qakhunt.Result(result_of(ROWS)))
    assert problem.value.hint == f"pip install 'qakhunt[{extra}]'"


def arrow_of(result: Any) -> Any:
    pytest.importorskip("pyarrow", reason="pyarrow comes with 'qakhunt[dev]'")
    return qakhunt.Result(result).to_arrow()


def test_the_arrow_table_has_the_cells_of_the_export() -> None:
    result = result_of(ROWS)
    table, flat = arrow_of(result), flat_table(result)
    assert table.column_names == flat.names
    assert table.num_rows == len(flat.rows)
    kinds = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert [kinds[name] for name in ("N", "R", "B", "D", "S", "G", "CommandLineList")] == [
        "int64", "double", "bool", "string", "string", "string", "string",
    ]  # fmt: skip
    first = table.slice(0, 1).to_pylist()[0]
    assert Decimal(first["D"]) == Decimal("-1.10")
    assert first["CommandLineList"] == '["x",{"k":[1,null]}]'
    assert table.slice(1, 1).to_pylist()[0]["AccountName"] == ""
    assert table.slice(1, 1).to_pylist()[0]["DeviceName"] is None


def test_times_keep_their_ticks_and_far_ones_their_value() -> None:
    near, both = arrow_of(result_of(ROWS[:2])), arrow_of(result_of(ROWS))
    assert str(near.schema.field("T").type) == "timestamp[ns, tz=UTC]"
    assert near["T"].cast("int64").to_pylist() == [1790812800123456700, None]
    assert str(both.schema.field("T").type) == "timestamp[us, tz=UTC]"
    assert both["T"].cast("int64").to_pylist()[2] == 253402214400000000  # 9999-12-31


def test_a_run_without_hits_has_its_columns() -> None:
    table = arrow_of(result_of([]))
    assert table.num_rows == 0
    assert len(table.column_names) == len(COLUMNS) + 4


def test_pandas_and_polars_hold_the_same() -> None:
    pytest.importorskip("pandas", reason="pandas comes with 'qakhunt[dev]'")
    pytest.importorskip("polars", reason="polars comes with 'qakhunt[dev]'")
    result = qakhunt.Result(result_of(ROWS[:2]))
    frame, other = result.to_pandas(), result.to_polars()
    assert list(frame.columns) == other.columns == result.to_arrow().column_names
    assert str(frame["T"].dtype) == "datetime64[ns, UTC]"
    assert frame["T"][0].value == other["T"].dt.timestamp("ns")[0] == 1790812800123456700
    assert other["DeviceName"].to_list() == ["d", None]
