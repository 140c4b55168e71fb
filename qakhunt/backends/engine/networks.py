"""Kusto's functions over IP addresses, as SQL.

The text of an address is read once, into a number and the length of its prefix; two
addresses are compared under the shortest prefix that either of them, or the call, has.
Source: learn.microsoft.com/kusto/query/ipv4-compare-function and the pages beside it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9][0-9]|[0-9])"
_IPV4 = rf"^{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}(?:/(3[0-2]|[12][0-9]|[0-9]))?$"
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
_GROUP = "^[0-9a-f]{1,4}$"


_LAMBDA = re.compile(r"\blambda (\w+)(?:, (\w+))?:")
_QUOTED = re.compile(r"('(?:[^']|'')*')")
_HOLE = "kql{}hole"


def hygienic(render: Callable[..., str], *, literal: int | None = None) -> Callable[..., str]:
    """The function with names in its lambdas that no column has.

    A column would hide a name with a member, as in ``v.n``, and a name would hide the
    column in an argument. The argument at ``literal`` is a literal that is read.
    """

    def rendered(*args: str) -> str:
        holes = [arg if at == literal else _HOLE.format(at) for at, arg in enumerate(args)]
        sql = renamed(render(*holes))
        return re.sub(r"\bkql(\d+)hole\b", lambda hole: args[int(hole[1])], sql)

    return rendered


def renamed(sql: str) -> str:
    """The SQL with a prefix before every lambda's names."""
    names = {name for pair in _LAMBDA.findall(sql) for name in pair if name}
    if not names:
        return sql
    used = re.compile(rf"(?<![\w.])({'|'.join(names)})\b(?!\s*(?::=|\())")
    parts = _QUOTED.split(sql)
    parts[::2] = [used.sub(r"_kql_\1", part) for part in parts[::2]]
    return "".join(parts)


def bind(value: str, name: str, body: str) -> str:
    """SQL of ``body``, in which ``name`` stands for ``value``, worked out once."""
    return f"list_transform([{value}], lambda {name}: {body})[1]"


def _texts(values: Sequence[str]) -> str:
    """The values as one list of text; a dynamic array gives its elements."""
    lists = (
        f"CASE WHEN typeof({v}) = 'JSON' AND json_type(TRY_CAST({v} AS JSON)) = 'ARRAY' "
        f"THEN list_transform(CAST(TRY_CAST({v} AS JSON) AS JSON[]), lambda e: e ->> '$') "
        f"WHEN typeof({v}) = 'JSON' THEN [TRY_CAST({v} AS JSON) ->> '$'] "
        f"ELSE [CAST({v} AS VARCHAR)] END"
        for v in values
    )
    return f"flatten([{', '.join(lists)}])"


def ipv4_range(text: str) -> str:
    """A struct of the first address ``a`` and the last ``z`` of a network; null for other text."""
    size = "CAST(pow(2, 32 - least(m.p, 32)) AS BIGINT)"
    first = f"m.n - m.n % {size}"
    found = (
        f"CASE WHEN m.n IS NOT NULL THEN struct_pack(a := {first}, z := {first} + {size} - 1) END"
    )
    return bind(_ipv4(text), "m", found)


def _ipv4(text: str) -> str:
    """A struct of the address ``n`` (null if it is none) and the length ``p`` of its prefix."""
    number = " + ".join(
        f"TRY_CAST(m.{name} AS BIGINT) * {256 ** (3 - at)}" for at, name in enumerate("abcd")
    )
    found = f"regexp_extract(trim(CAST({text} AS VARCHAR)), '{_IPV4}', ['a', 'b', 'c', 'd', 'p'])"
    return bind(
        found, "m", f"struct_pack(n := {number}, p := coalesce(TRY_CAST(m.p AS BIGINT), 32))"
    )


def _groups(text: str) -> str:
    """The eight groups of an IPv6 address without dots; another number of them if it is none."""

    def part(at: int) -> str:
        return f"list_filter(str_split(split_part({text}, '::', {at}), ':'), lambda g: g <> '')"

    zeros = f"list_transform(range(8 - len({part(1)}) - len({part(2)})), lambda g: '0')"
    return (
        f"CASE WHEN strpos({text}, '::') > 0 THEN {part(1)} || {zeros} || {part(2)} "
        f"ELSE str_split({text}, ':') END"
    )


def _ipv6(text: str) -> str:
    """As ``_ipv4``, of 128 bits: an IPv4 address is the mapped one, its prefix 96 bits longer."""
    split = (
        "struct_pack(a := regexp_replace(split_part(t, '/', 1), '%.*$', ''), "
        "g := CASE WHEN strpos(t, '/') > 0 THEN coalesce(TRY_CAST(split_part(t, '/', 2) "
        "AS BIGINT), -1) END)"
    )
    mapped = (
        "CAST(281470681743360 + "
        + bind(_ipv4("regexp_extract(s.a, '[0-9.]+$')"), "q", "q.n")
        + " AS UHUGEINT)"
    )
    plain = bind(
        _groups("s.a"),
        "w",
        f"CASE WHEN len(w) = 8 AND list_bool_and("
        f"list_transform(w, lambda g: regexp_matches(g, '{_GROUP}'))) "
        "THEN CAST('0x' || array_to_string(list_transform(w, lambda g: lpad(g, 4, '0')), '') "
        "AS UHUGEINT) END",
    )
    value = (
        r"CASE WHEN regexp_matches(s.a, '^(::(ffff:)?)?[0-9]+\.') THEN struct_pack("
        f"n := {mapped}, p := CASE WHEN s.g < 0 THEN s.g ELSE 96 + coalesce(s.g, 32) END) "
        f"ELSE struct_pack(n := {plain}, p := coalesce(s.g, 128)) END"
    )
    lowered = f"lower(trim(CAST({text} AS VARCHAR)))"
    return bind(lowered, "t", bind(split, "s", value))


def _masked(bits: int, number: str, prefix: str) -> str:
    """The first ``prefix`` of the number's bits; null where the prefix is no such length."""
    kind = "BIGINT" if bits == 32 else "UHUGEINT"
    return (
        f"CASE WHEN {prefix} = 0 THEN CAST(0 AS {kind}) WHEN {prefix} BETWEEN 1 AND {bits} "
        f"THEN {number} >> CAST({bits} - {prefix} AS {kind}) END"
    )


def _compared(bits: int, result: str) -> Callable[..., str]:
    """A function of two addresses, and of a prefix where given, over their bits x and y."""
    read = _ipv4 if bits == 32 else _ipv6

    def render(left: str, right: str, prefix: str | None = None) -> str:
        shortest = "least(c.l.p, c.r.p" + (f", CAST({prefix} AS BIGINT))" if prefix else ")")
        both = (
            f"CASE WHEN c.l.n IS NOT NULL AND c.r.n IS NOT NULL THEN struct_pack("
            f"x := {_masked(bits, 'c.l.n', 'c.p')}, y := {_masked(bits, 'c.r.n', 'c.p')}) END"
        )
        return bind(
            bind(
                f"struct_pack(l := {read(left)}, r := {read(right)})",
                "c",
                bind(f"struct_pack(l := c.l, r := c.r, p := {shortest})", "c", both),
            ),
            "z",
            result,
        )

    return render


_SIGN = "CASE WHEN z.x > z.y THEN 1 WHEN z.x < z.y THEN -1 WHEN z.x = z.y THEN 0 END"
ipv4_compare = _compared(32, f"CAST({_SIGN} AS BIGINT)")
ipv6_compare = _compared(128, f"CAST({_SIGN} AS BIGINT)")
ipv4_is_match = _compared(32, "z.x = z.y")
ipv6_is_match = _compared(128, "z.x = z.y")


def _in_any(match: Callable[..., str]) -> Callable[..., str]:
    def render(address: str, *ranges: str) -> str:
        tests = f"list_transform({_texts(ranges)}, lambda r: {match('a', 'r')})"
        return bind(f"CAST({address} AS VARCHAR)", "a", f"list_bool_or({tests})")

    return render


ipv4_is_in_any_range = _in_any(ipv4_is_match)
ipv6_is_in_any_range = _in_any(ipv6_is_match)


def ipv4_is_private(address: str) -> str:
    """Whether it lies in one of the three private networks; null for no address."""
    tests = []
    for network in _PRIVATE:
        base, _, length = network.partition("/")
        number = sum(int(octet) << 8 * (3 - at) for at, octet in enumerate(base.split(".")))
        shift = 32 - int(length)
        tests.append(f"(v.p >= {length} AND v.n >> {shift} = {number >> shift})")
    private = f"CASE WHEN v.n IS NOT NULL THEN {' OR '.join(tests)} END"
    return bind(_ipv4(address), "v", private)


def ipv4_netmask_suffix(address: str) -> str:
    """The length of the prefix, 32 without one."""
    return bind(_ipv4(address), "v", "CASE WHEN v.n IS NOT NULL THEN v.p END")


def _under_mask(address: str, prefix: str, result: str) -> str:
    """``result`` over ``v.m``, the masked address, and ``v.p``, the prefix in force."""
    shortest = f"least(v.p, CAST({prefix} AS BIGINT))"
    first = _masked(32, "v.n", "v.p")
    masked = f"struct_pack(m := {first} << (32 - v.p), p := v.p)"
    return bind(
        bind(_ipv4(address), "v", f"struct_pack(n := v.n, p := {shortest})"),
        "v",
        f"CASE WHEN v.n IS NOT NULL AND v.p BETWEEN 0 AND 32 THEN {bind(masked, 'v', result)} END",
    )


def parse_ipv4_mask(address: str, prefix: str) -> str:
    """The masked address as a long."""
    return _under_mask(address, prefix, "v.m")


_DOTTED = "printf('%d.%d.%d.%d', v.m >> 24, (v.m >> 16) & 255, (v.m >> 8) & 255, v.m & 255)"


def _number_or_text(address: str) -> str:
    """A number is an address in big-endian order."""
    dotted = _DOTTED.replace("v.m", "i")
    number = bind(f"TRY_CAST(CAST({address} AS VARCHAR) AS BIGINT)", "i", dotted)
    text = f"CAST({address} AS VARCHAR)"
    return f"CASE WHEN typeof({address}) LIKE '%INT%' THEN {number} ELSE {text} END"


def format_ipv4(address: str, prefix: str = "32") -> str:
    """The masked address as text; empty for no address."""
    return f"coalesce({_under_mask(_number_or_text(address), prefix, _DOTTED)}, '')"


def format_ipv4_mask(address: str, prefix: str = "32") -> str:
    """The same with the prefix behind it."""
    result = f"{_DOTTED} || '/' || v.p"
    return f"coalesce({_under_mask(_number_or_text(address), prefix, result)}, '')"


def parse_ipv6_mask(address: str, prefix: str) -> str:
    """The masked address in full, as eight groups; empty for no address."""
    shortest = f"least(v.p, CAST({prefix} AS BIGINT))"
    first = _masked(128, "v.n", "v.p")
    number = f"CASE WHEN v.p = 0 THEN {first} ELSE {first} << CAST(128 - v.p AS UHUGEINT) END"
    groups = (
        "list_transform(range(8), lambda i: printf('%04x', "
        "CAST((k >> CAST(112 - 16 * i AS UHUGEINT)) & CAST(65535 AS UHUGEINT) AS BIGINT)))"
    )
    text = bind(number, "k", f"array_to_string({groups}, ':')")
    value = bind(
        bind(_ipv6(address), "v", f"struct_pack(n := v.n, p := {shortest})"),
        "v",
        f"CASE WHEN v.n IS NOT NULL AND v.p BETWEEN 0 AND 128 THEN {text} END",
    )
    return f"coalesce({value}, '')"


_SHORT = _OCTET.replace("(", "(?:", 1)
# Neighbours may share a delimiter, which a match takes: each is there twice.
_DELIMITED = r"'([^0-9A-Za-z.])', '\1\1', 'g'"
_FOUND = (
    rf"regexp_extract_all(' ' || t || ' ', "
    rf"'[^0-9A-Za-z.]({_SHORT}(?:\.{_SHORT}){{3}})(?:[^0-9A-Za-z.]|\.[^0-9])', 1)"
)


def _doubled(text: str) -> str:
    return f"regexp_replace(CAST({text} AS VARCHAR), {_DELIMITED})"


def has_any_ipv4(text: str, *addresses: str) -> str:
    """Whether one of the addresses stands in the text, delimited."""
    wanted = f"list_transform({_texts(addresses)}, lambda w: trim(w))"
    return bind(_doubled(text), "t", f"coalesce(list_has_any({_FOUND}, {wanted}), false)")


def has_any_ipv4_prefix(text: str, *prefixes: str) -> str:
    """Whether an address in the text begins with one: whole, or ending with a dot."""
    whole = rf"^{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}$"
    partial = rf"^({_OCTET}\.){{1,3}}$"
    starts = (
        f"CASE WHEN regexp_matches(w, '{whole}') THEN f = w "
        f"WHEN regexp_matches(w, '{partial}') THEN starts_with(f, w) ELSE false END"
    )
    tests = (
        f"list_transform({_FOUND}, lambda f: list_bool_or(list_transform({_texts(prefixes)}, "
        f"lambda w: {starts})))"
    )
    return bind(_doubled(text), "t", f"coalesce(list_bool_or({tests}), false)")


FUNCTIONS: dict[str, tuple[Callable[..., str], int, int | None]] = {
    "ipv4_is_private": (ipv4_is_private, 1, 1),
    "ipv4_is_in_range": (ipv4_is_match, 2, 2),
    "ipv4_is_match": (ipv4_is_match, 2, 3),
    "ipv4_compare": (ipv4_compare, 2, 3),
    "ipv4_is_in_any_range": (ipv4_is_in_any_range, 2, None),
    "ipv4_netmask_suffix": (ipv4_netmask_suffix, 1, 1),
    "parse_ipv4_mask": (parse_ipv4_mask, 2, 2),
    "format_ipv4": (format_ipv4, 1, 2),
    "format_ipv4_mask": (format_ipv4_mask, 1, 2),
    "ipv6_is_in_range": (ipv6_is_match, 2, 2),
    "ipv6_is_match": (ipv6_is_match, 2, 3),
    "ipv6_compare": (ipv6_compare, 2, 3),
    "ipv6_is_in_any_range": (ipv6_is_in_any_range, 2, None),
    "parse_ipv6_mask": (parse_ipv6_mask, 2, 2),
    "has_ipv4": (has_any_ipv4, 2, 2),
    "has_any_ipv4": (has_any_ipv4, 2, None),
    "has_ipv4_prefix": (has_any_ipv4_prefix, 2, 2),
    "has_any_ipv4_prefix": (has_any_ipv4_prefix, 2, None),
}
"""Name -> how it is written, and the least and the most arguments (None: any number)."""
