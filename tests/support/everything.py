"""A result with every KQL type and the cells that are hard to carry."""

from __future__ import annotations

from decimal import Decimal

from qakhunt.answers.table import Column, ResultTable
from qakhunt.kql.values import Instant, Timespan

EVERYTHING = ResultTable(
    (
        Column("B", "bool"), Column("I", "int"), Column("L", "long"), Column("R", "real"),
        Column("M", "decimal"), Column("S", "string"), Column("D", "datetime"),
        Column("T", "timespan"), Column("G", "guid"), Column("Y", "dynamic"), Column("S", "string"),
    ),
    [
        (
            True, -(2**31), 2**63 - 1, 0.1, Decimal("1.10"), "=1+1\x1b[31m\r\n\u202e",
            Instant.parse("2026-10-01T00:00:00.1234567Z"), Timespan.parse("-1.02:03:04.0000001"),
            "aaaaaaaa-1111-4222-8333-bbbbbbbbbbbb", {"k": [1, None, "é"]}, "again",
        ),
        (
            False, 0, -(2**63), float("inf"), Decimal("-0.0000001"), "",
            Instant.parse("0001-01-01"), Timespan(0), "aaaaaaaa-1111-4222-8333-bbbbbbbbbbbb",
            ["[1]", "text"], "",
        ),
        (None, None, None, float("nan"), None, "", None, None, None, None, ""),
        (
            None, None, None, float("-inf"), None, "'", Instant.parse("9999-12-31T23:59:59.9999999Z"),
            Timespan.parse("10000000.00:00:00"), None, "a text", "",
        ),
    ],
)  # fmt: skip
"""Two columns share a name."""
