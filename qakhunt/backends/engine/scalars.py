"""Scalar functions that the pinned translator lacks, or answers otherwise than Kusto does.

Each is SQL over its arguments' SQL. Source: the function's page below
learn.microsoft.com/kusto/query, which the cases of tests/language cite.
"""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from qakhunt.backends.engine import array_functions, networks
from qakhunt.backends.engine.corrections import ELEMENT
from qakhunt.backends.engine.dynamics import NUMBER, text_of
from qakhunt.backends.engine.networks import bind, hygienic
from qakhunt.backends.engine.rendering import columns_here, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    Function = tuple[Callable[..., str], int, int | None]

_FORMATS = (
    "%b %-d %Y", "%B %-d %Y", "%B %-d, %Y", "%-d %B %Y", "%b %-d %Y %H:%M:%S",
    "%b %-d %Y %H:%M", "%-d %b %y %H:%M:%S", "%-d %b %y %H:%M", "%-d %b %Y %H:%M:%S",
    "%-d %b %Y %H:%M", "%a, %-d %b %y %H:%M:%S", "%a, %-d %b %y %H:%M",
    "%a, %-d %b %Y %H:%M:%S", "%d-%b-%y %H:%M:%S", "%d-%b-%y %H:%M",
    "%A, %d-%b-%y %H:%M:%S", "%A, %d-%b-%y %H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M",
)  # fmt: skip
"""Forms of a time beyond those that the translator reads, less a GMT behind them:
RFC 822, RFC 850 and what .NET reads besides."""


def _text(value: str) -> str:
    return f"CAST({value} AS VARCHAR)"


def _array(value: str) -> str:
    return f"CAST(to_json({value}) AS JSON[])"


def split(text: str, delimiter: str, index: str | None = None) -> str:
    """The parts, or an array of the one at ``index``, empty where there is none."""
    parts = f"str_split({text}, {delimiter})"
    if index is None:
        return f"to_json({parts})"
    at = f"CAST({index} AS BIGINT)"
    one = f"CASE WHEN {at} >= 0 THEN s[{at} + 1 : {at} + 1] ELSE [] END"
    return f"to_json({bind(parts, 's', one)})"


_BYTES = "TRY(from_base64({0}))"


def base64_decode_tostring(text: str) -> str:
    """The text behind it; empty where it is no base64 or no UTF-8, as Kusto's null string."""
    return f"coalesce(TRY(decode(from_base64({text}))), '')"


def base64_decode_toarray(text: str) -> str:
    """The bytes as numbers; null where it is no base64."""
    digits = f"hex({_BYTES.format(text)})"
    numbers = (
        "to_json(list_transform(range(1, length(h) + 1, 2), "
        "lambda i: CAST('0x' || substr(h, i, 2) AS BIGINT)))"
    )
    return bind(digits, "h", numbers)


def make_string(*codes: str) -> str:
    """The characters of these code points, or of an array of them."""
    values = ", ".join(
        f"CASE WHEN typeof({c}) = 'JSON' AND json_type(TRY_CAST({c} AS JSON)) = 'ARRAY' "
        f"THEN list_transform({_array(c)}, lambda e: CAST(e AS BIGINT)) "
        f"ELSE [TRY_CAST({_text(c)} AS BIGINT)] END"
        for c in codes
    )
    return (
        f"array_to_string(list_transform(flatten([{values}]), "
        "lambda n: chr(CAST(n AS INTEGER))), '')"
    )


def to_codepoints(text: str) -> str:
    """The code points of its characters."""
    return f"to_json(list_transform(str_split({text}, ''), lambda c: unicode(c)))"


def replace_strings(text: str, lookups: str, rewrites: str) -> str:
    """Each text of an array by its counterpart; what one has matched the next does not see."""
    marked = (
        f"list_reduce(list_prepend(struct_pack(o := '', n := {_text(text)}), "
        f"list_transform({_array(lookups)}, lambda l, i: struct_pack(o := l ->> '$', "
        "n := chr(983040 + CAST(i AS INTEGER))))), "
        "lambda a, b: struct_pack(o := '', n := replace(a.n, b.o, b.n))).n"
    )
    return (
        f"list_reduce(list_prepend(struct_pack(o := '', n := {marked}), "
        f"list_transform({_array(rewrites)}, lambda l, i: struct_pack("
        "o := chr(983040 + CAST(i AS INTEGER)), n := l ->> '$'))), "
        "lambda a, b: struct_pack(o := '', n := replace(a.n, b.o, b.n))).n"
    )


_ARGUMENT = (
    r'^"[^"]*"?|(?:(?:\\\\)*\\"|(?:\\\\)*"(?:(?:\\\\)*\\"|\\+[^"\\]|""|[^"\\])*(?:(?:\\\\)*"|\\*$)'
    r'|\\+|[^\s"\\])+'
)
_UNITS = r'\\*"|\\+|[^"\\]+'


def parse_command_line(text: str, kind: str) -> str:
    """The arguments as Windows' CommandLineToArgvW divides them."""
    if kind.lower() != "'windows'":
        raise refusal("parse_command_line", "parse_command_line() reads the type 'windows' only")
    unit = (
        "CASE WHEN ends_with(u, '\"') THEN repeat('\\', (length(u) - 1) // 2) || "
        "CASE WHEN length(u) % 2 = 0 THEN '\"' ELSE '' END ELSE u END"
    )
    plain = (
        f"array_to_string(list_transform(regexp_extract_all(a, '{_UNITS}'), lambda u: {unit}), '')"
    )
    # The program's name is quoted whole, and its backslashes are its own.
    first = f"CASE WHEN i = 1 AND starts_with(a, '\"') THEN trim(a, '\"') ELSE {plain} END"
    # Two quotation marks inside quoted text are one of its own.
    doubled = r"""CASE WHEN i > 1 AND starts_with(a, '"') AND length(a) > 2
        THEN regexp_replace(a, '([^\\"])""([^\s])', '\1\\"\2', 'g') ELSE a END"""
    found = f"regexp_extract_all({_text(text)}, '{_ARGUMENT}')"
    return (
        f"to_json(list_transform(list_transform({found}, lambda a, i: {doubled}), "
        f"lambda a, i: {first}))"
    )


_PATH = (
    r"^(?:([A-Za-z][A-Za-z0-9+.-]*)://)?((?:\\\\\?\\)?(?:([A-Za-z]:))?.*?)"
    r"([^/\\:]*)(?::([^/\\:]+))?$"
)


def parse_path(path: str) -> str:
    """Its parts as an object."""
    names = "['scheme', 'folder', 'root', 'file', 'stream']"
    folder = r"regexp_replace(p.folder, '[/\\]+$', '')"
    fields = (
        "json_object('Scheme', p.scheme, 'RootPath', p.root, "
        f"'DirectoryPath', {folder}, "
        rf"'DirectoryName', regexp_extract({folder}, '([^/\\:]*)$', 1), "
        "'Filename', p.file, 'Extension', regexp_extract(p.file, '\\.([^.]*)$', 1), "
        "'AlternateDataStreamName', p.stream)"
    )
    return bind(f"regexp_extract({_text(path)}, '{_PATH}', {names})", "p", fields)


def parse_urlquery(text: str) -> str:
    """The parameters of a query string, decoded, below ``Query Parameters``."""
    pairs = f"list_filter(str_split(ltrim({_text(text)}, '?'), '&'), lambda x: x <> '')"
    entry = (
        "to_json(url_decode(split_part(x, '=', 1))) || ':' || "
        "to_json(url_decode(replace(substr(x, length(split_part(x, '=', 1)) + 2), '+', ' ')))"
    )
    made = f"array_to_string(list_transform({pairs}, lambda x: {entry}), ',')"
    return f"json_object('Query Parameters', CAST('{{' || {made} || '}}' AS JSON))"


def parse_version(text: str) -> str:
    """A number that compares as versions do: four parts of eight digits."""
    part = "coalesce(CAST(try_cast(list_extract(v, {0}) AS BIGINT) AS DECIMAL(38,0)), 0) * {1}"
    total = " + ".join(
        part.format(at + 1, f"CAST({10 ** (24 - 8 * at)} AS DECIMAL(38,0))") for at in range(4)
    )
    valid = rf"regexp_matches({_text(text)}, '^\d{{1,8}}(\.\d{{1,8}}){{0,3}}$')"
    parts = f"str_split({_text(text)}, '.')"
    return f"CASE WHEN {valid} THEN {bind(parts, 'v', total)} END"


def strcmp(left: str, right: str) -> str:
    """-1, 0 or 1."""
    order = f"CASE WHEN {left} < {right} THEN -1 WHEN {left} > {right} THEN 1 ELSE 0 END"
    return f"CAST({order} AS BIGINT)"


def has_any_index(text: str, terms: str) -> str:
    """The place of the first term of an array that the text has; -1 without one."""
    boundary = r"[^\pL\pN]"
    test = (
        f"regexp_matches({text}, '(?i)(?:^|{boundary})' || regexp_escape(w ->> '$') || "
        f"'(?:$|{boundary})')"
    )
    found = f"list_position(list_transform({_array(terms)}, lambda w: {test}), true)"
    return f"CAST(coalesce({found} - 1, -1) AS BIGINT)"


def indexof_regex(
    text: str, pattern: str, start: str = "0", length: str = "-1", occurrence: str = "1"
) -> str:
    """Where a match begins, by default the first; -1 without it, null for a place that is none."""
    part = (
        f"struct_pack(p := CAST({start} AS BIGINT), n := CAST({occurrence} AS BIGINT), "
        f"s := CASE WHEN {length} < 0 THEN substr({_text(text)}, {start} + 1) "
        f"ELSE substr({_text(text)}, {start} + 1, {length}) END)"
    )
    before = f"array_to_string(string_split_regex(x.s, {pattern})[1:x.n], '')"
    matches = f"regexp_extract_all(x.s, {pattern})"
    earlier = f"array_to_string({matches}[1:x.n - 1], '')"
    return bind(
        part, "x",
        f"CASE WHEN {start} < 0 OR {occurrence} < 0 OR {length} < -1 THEN NULL "
        f"WHEN len({matches}) < x.n THEN CAST(-1 AS BIGINT) "
        f"ELSE x.p + length({before}) + length({earlier}) END",
    )  # fmt: skip


def tohex(number: str, length: str = "1") -> str:
    """Lower-case digits, of a negative number those of all its bits, padded with zeros."""
    bits = f"CASE WHEN typeof({number}) = 'INTEGER' THEN 4294967295 ELSE -1 END"
    digits = f"printf('%x', CAST({number} AS BIGINT) & {bits})"
    wanted = f"CAST(greatest(least({length}, 16), length(h)) AS INTEGER)"
    return bind(digits, "h", f"lpad(h, {wanted}, '0')")


def translate_characters(old: str, new: str, text: str) -> str:
    """Each character of one list by that of the other, whose last one stands for the rest."""
    return (
        f"CASE WHEN {new} = '' THEN translate({text}, {old}, '') ELSE "
        f"translate({text}, {old}, rpad({new}, CAST(length({old}) AS INTEGER), "
        f"right({new}, 1))) END"
    )


def unixtime(unit: int) -> Callable[[str], str]:
    """Seconds or parts of them since 1970 as a datetime; null out of range."""

    def render(number: str) -> str:
        micros = f"CAST({number} AS DOUBLE) * {1_000_000 // unit}"
        if unit >= 1000:
            whole = f"CAST({number} AS BIGINT)"
            micros = f"{whole} * {1_000_000 // unit}" if unit <= 1_000_000 else f"{whole} // 1000"
        return f"TRY(make_timestamp(CAST({micros} AS BIGINT)))"

    return render


_SPAN_PARTS = {"d": 86_400, "h": 3600, "H": 3600, "m": 60, "s": 1}
_MODULO = {"h": 24, "H": 24, "m": 60, "s": 60}


def format_timespan(span: str, form: str) -> str:
    """The span in the form of a literal, made of runs of one letter and delimiters."""
    pieces = []
    for run in re.findall(r"(d+|[hH]+|m+|s+|f+|F+|[^dhHmsfF])", form[1:-1]):
        letter = run[0]
        if letter in _SPAN_PARTS:
            value = f"u // {_SPAN_PARTS[letter] * 1_000_000}"
            if letter in _MODULO:
                value = f"({value}) % {_MODULO[letter]}"
            pieces.append(f"printf('%0{len(run)}d', {value})")
        elif letter in "fF":
            digits = f"substr(printf('%06d0', u % 1000000), 1, {len(run)})"
            none = f"CASE WHEN CAST({digits} AS BIGINT) = 0 THEN '' ELSE {digits} END"
            pieces.append(none if letter == "F" else digits)
        elif letter in " /-:,._[]":
            pieces.append(f"'{letter}'")
        else:
            raise refusal("format_timespan", f"format_timespan() has no element {letter!r}")
    return bind(f"abs(epoch_us({span}))", "u", " || ".join(pieces) or "''")


def _sets(combine: str) -> Callable[..., str]:
    def render(first: str, *others: str) -> str:
        made = _array(first)
        for other in others:
            made = combine.format(made, _array(other))
        return f"to_json(list_sort(list_distinct({made})))"

    return render


def _member(bag: str, key: str) -> str:
    pointer = f"'/' || replace(replace({key}, '~', '~0'), '/', '~1')"
    return f"CAST(json_extract({bag}, {pointer}) AS VARCHAR)"


def entries(bag: str) -> str:
    """The members of an object as a list of its keys ``k`` and their values ``v`` in JSON."""
    return (
        f"list_transform(json_keys({bag}), lambda k: struct_pack(k := k, v := {_member(bag, 'k')}))"
    )


def object_of(members: str) -> str:
    """The object of such members; of those with one key the first."""
    first = "list_filter(m, lambda e, i: list_position(list_transform(m, lambda f: f.k), e.k) = i)"
    pairs = f"list_transform({first}, lambda e: to_json(e.k) || ':' || e.v)"
    return bind(
        members, "m", f"CAST(chr(123) || array_to_string({pairs}, ',') || chr(125) AS JSON)"
    )


def bag_merge(*bags: str) -> str:
    """One object of all; of a key that several have the first one's value counts."""
    return object_of(f"flatten([{', '.join(f'coalesce({entries(bag)}, [])' for bag in bags)}])")


def bag_remove_keys(bag: str, keys: str) -> str:
    """The object without these keys; one that begins with ``$.`` is a path."""
    parts = (
        f"list_transform({_array(keys)}, lambda e: CASE WHEN starts_with(e ->> '$', '$.') "
        "THEN str_split(substr(e ->> '$', 3), '.') ELSE [e ->> '$'] END)"
    )
    opened = "array_to_string(list_transform(p, lambda k: chr(123) || to_json(k) || ':'), '')"
    path = "'/' || array_to_string(list_transform(p, lambda k: replace(k, '/', '~1')), '/')"
    patch = f"{opened} || 'null' || repeat(chr(125), len(p))"
    steps = (
        f"list_transform({parts}, lambda p: struct_pack(b := CAST({patch} AS JSON), w := {path}))"
    )
    first = f"struct_pack(b := CAST(to_json({bag}) AS JSON), w := '')"
    return (
        f"list_reduce(list_prepend({first}, {steps}), lambda a, s: struct_pack(b := CASE WHEN "
        "json_exists(a.b, s.w) THEN CAST(json_merge_patch(a.b, s.b) AS JSON) ELSE a.b END, "
        "w := '')).b"
    )


def bag_has_key(bag: str, key: str) -> str:
    """Whether the object has the key, which may be a path beginning with ``$``."""
    member = f"list_contains(json_keys({bag}), {key})"
    return f"CASE WHEN starts_with({key}, '$') THEN json_exists({bag}, {key}) ELSE {member} END"


def array_iff(tests: str, yes: str, no: str) -> str:
    """Of each pair of elements the one that the condition says."""

    def element(value: str) -> str:
        one = (
            f"CASE WHEN typeof({value}) = 'JSON' AND json_type(TRY_CAST({value} AS JSON)) = 'ARRAY'"
        )
        return f"{one} THEN CAST(TRY_CAST({value} AS JSON) AS JSON[])[i] ELSE to_json({value}) END"

    test = "CASE WHEN json_type(t) = 'BOOLEAN' THEN CAST(t AS BOOLEAN) "
    test += "WHEN json_type(t) IN ('BIGINT', 'UBIGINT', 'DOUBLE') THEN CAST(t AS DOUBLE) <> 0 END"
    tests_list = f"list_transform({_array(tests)}, lambda t: {test})"
    chosen = f"CASE WHEN t IS NULL THEN NULL WHEN t THEN {element(yes)} ELSE {element(no)} END"
    return f"to_json(list_transform({tests_list}, lambda t, i: {chosen}))"


def _pack_all(translate: Any) -> Callable[[Any], str]:
    """All columns as an object; without nulls and empty text where that is asked for."""

    def form(node: Any) -> str:
        names = columns_here()
        if names is None:
            raise refusal(
                "pack_all", "the embedded engine does not know the columns that pack_all() packs",
                "name them, as in bag_pack('Column', Column)",
            )  # fmt: skip
        members = ", ".join(
            f"struct_pack(k := {translate.quote_string(name)}, v := coalesce(CAST("
            f"{ELEMENT.format(translate.quote_ident(name))} AS VARCHAR), 'null'))"
            for name in names
        )
        whole: Callable[[str], str] = object_of
        if node.args and getattr(node.args[0], "value", None):
            kept = "lambda e: e.v <> 'null' AND e.v <> '\"\"'"

            def without_empty(all_of_them: str) -> str:
                return object_of(f"list_filter({all_of_them}, {kept})")

            whole = without_empty
        return hygienic(whole)(f"[{members}]")

    return form


def repeat(value: str, count: str) -> str:
    """An array of the value ``count`` times."""
    return f"to_json(list_transform(range(CAST({count} AS BIGINT)), lambda i: to_json({value})))"


def jaccard_index(left: str, right: str) -> str:
    """What two sets share of all that they have."""
    both = f"list_distinct(list_concat({_array(left)}, {_array(right)}))"
    shared = f"list_distinct(list_intersect({_array(left)}, {_array(right)}))"
    return f"(CAST(len({shared}) AS DOUBLE) / len({both}))"


def extract_json(path: str, text: str) -> str:
    """The value at a JSON path, as text."""
    return f"coalesce(json_extract_string(TRY_CAST({_text(text)} AS JSON), {path}), '')"


def parse_csv(text: str) -> str:
    """The values of the first record."""
    field = r'(?:^|,)("(?:[^"]|"")*"|[^,"\r\n]*)'
    record = r'^(?:"(?:[^"]|"")*"|[^"\r\n])*'
    fields = f"regexp_extract_all(regexp_extract({_text(text)}, '{record}'), '{field}', 1)"
    plain = (
        "CASE WHEN starts_with(f, '\"') THEN "
        "replace(substr(f, 2, length(f) - 2), '\"\"', '\"') ELSE f END"
    )
    return f"to_json(list_transform({fields}, lambda f: {plain}))"


def geo_distance(lng1: str, lat1: str, lng2: str, lat2: str) -> str:
    """Metres between two points of a sphere as large as the page's example has it."""
    chord = (
        "pow(sin(radians(p.d - p.b) / 2), 2) + cos(radians(p.b)) * cos(radians(p.d)) "
        "* pow(sin(radians(p.c - p.a) / 2), 2)"
    )
    valid = "abs(p.a) <= 180 AND abs(p.c) <= 180 AND abs(p.b) <= 90 AND abs(p.d) <= 90"
    points = ", ".join(
        f"{name} := CAST({value} AS DOUBLE)"
        for name, value in zip("abcd", (lng1, lat1, lng2, lat2), strict=True)
    )
    distance = f"CASE WHEN {valid} THEN 2 * 6371010.0 * asin(least(1, sqrt({chord}))) END"
    return bind(f"struct_pack({points})", "p", distance)


def _zoned(source: str, target: str) -> Callable[[str, str], str]:
    def render(time: str, zone: str) -> str:
        into = f"timezone({source.format(zone)}, {time})"
        return f"timezone({target.format(zone)}, {into})"

    return render


def _same_as(name: str) -> Callable[..., str]:
    """Another name of a function that the translator has."""

    def render(*arguments: str) -> str:
        from duckdb_kql.translate import functions

        return functions.SCALAR_FUNCTIONS[name].render(list(arguments))

    return render


FUNCTIONS: dict[str, Function] = {
    **networks.FUNCTIONS,
    **array_functions.FUNCTIONS,
    "split": (split, 2, 3),
    "base64_decode_tostring": (base64_decode_tostring, 1, 1),
    "base64_decodestring": (base64_decode_tostring, 1, 1),
    "base64_decode_toarray": (base64_decode_toarray, 1, 1),
    "make_string": (make_string, 1, None),
    "unicode_codepoints_to_string": (make_string, 1, None),
    "unicode_codepoints_from_string": (to_codepoints, 1, 1),
    "to_utf8": (to_codepoints, 1, 1),
    "replace_strings": (replace_strings, 3, 3),
    "parse_command_line": (parse_command_line, 2, 2),
    "parse_path": (parse_path, 1, 1),
    "parse_urlquery": (parse_urlquery, 1, 1),
    "parse_version": (parse_version, 1, 1),
    "strcmp": (strcmp, 2, 2),
    "translate": (translate_characters, 3, 3),
    "has_any_index": (has_any_index, 2, 2),
    "indexof_regex": (indexof_regex, 2, 5),
    "regex_quote": (lambda text: f"regexp_escape({text})", 1, 1),
    "url_decode": (lambda text: f"coalesce(TRY(url_decode({text})), '')", 1, 1),
    "url_encode_component": (lambda text: f"url_encode({text})", 1, 1),
    "tohex": (tohex, 1, 2),
    "unixtime_seconds_todatetime": (unixtime(1), 1, 1),
    "unixtime_milliseconds_todatetime": (unixtime(1000), 1, 1),
    "unixtime_microseconds_todatetime": (unixtime(1_000_000), 1, 1),
    "unixtime_nanoseconds_todatetime": (unixtime(1_000_000_000), 1, 1),
    "format_timespan": (format_timespan, 2, 2),
    "set_union": (_sets("list_concat({0}, {1})"), 2, None),
    "set_intersect": (_sets("list_intersect({0}, {1})"), 2, None),
    "set_difference": (
        _sets("list_filter({0}, lambda e: NOT list_contains({1}, e))"), 2, None,
    ),
    "bag_keys": (lambda bag: f"to_json(json_keys({bag}))", 1, 1),
    "bag_merge": (bag_merge, 2, None),
    "bag_remove_keys": (bag_remove_keys, 2, 2),
    "bag_has_key": (bag_has_key, 2, 2),
    "range": (lambda a, b, step="CAST(1 AS BIGINT)": f"kql_range({a}, {b}, {step})", 2, 3),
    "bin_at": (lambda value, size, at: f"kql_bin_at({value}, {size}, {at})", 3, 3),
    "repeat": (repeat, 2, 2),
    "jaccard_index": (jaccard_index, 2, 2),
    "extract_json": (extract_json, 2, 2),
    "extractjson": (extract_json, 2, 2),
    "datetime_local_to_utc": (_zoned("{0}", "'UTC'"), 2, 2),
    "datetime_utc_to_local": (_zoned("'UTC'", "{0}"), 2, 2),
    "array_iff": (array_iff, 3, 3),
    "array_iif": (array_iff, 3, 3),
    "notempty": (_same_as("isnotempty"), 1, 1),
    "parse_csv": (parse_csv, 1, 1),
    "geo_distance_2points": (geo_distance, 4, 4),
    "isascii": (lambda text: rf"regexp_full_match({text}, '[\x00-\x7F]*')", 1, 1),
}  # fmt: skip
"""Name -> how it is written, and the least and the most arguments (None: any number)."""

_LITERALS = {"parse_command_line": 1, "format_timespan": 1}
"""Function -> the argument that is read when the query is translated."""

ALIASES = {
    "parsejson": "parse_json", "toobject": "parse_json", "extractall": "extract_all",
    "arraylength": "array_length", "parseurl": "parse_url", "parseurlquery": "parse_urlquery",
    "totime": "totimespan", "datepart": "datetime_part", "pack_dictionary": "bag_pack",
}  # fmt: skip

REFUSED = {
    "parse_user_agent": (
        "knows browsers by a list of the service's", "match the text itself, as with 'has'"
    ),
    "series_decompose_anomalies": (
        "is not computed", "compare with an average and its stdev(), by summarize"
    ),
    **dict.fromkeys(("series_stats", "series_fit_line"), (
        "gives several columns, which 'extend' and 'project' alone can take",
        "its namesake with _dynamic at the end gives one value",
    )),
    **dict.fromkeys(("series_outliers", "series_decompose", "series_periods_detect"), (
        "is not computed", "compare with an average and its stdev(), by summarize"
    )),
    "series_fill_linear": (
        "rounds in a way that is not documented", "series_fill_forward() or series_fill_const()"
    ),
    "rand": ("is another value on every run", "hash(column, n) parts rows the same way each time"),
    "new_guid": ("is another value on every run", None),
    "current_principal": ("is known to the service only", None),
    "url_encode": ("is not computed", "url_encode_component() is"),
}  # fmt: skip
"""What no answer here could equal: why, and what to write instead."""


@cache
def install() -> None:
    """Add them to the translator's tables, once per process."""
    from duckdb_kql import translate
    from duckdb_kql.translate import functions, naming

    hooks: Any = translate
    table: dict[str, Any] = functions.SCALAR_FUNCTIONS
    forms: dict[str, Any] = translate._SPECIAL_FORMS
    for name, (render, least, most) in FUNCTIONS.items():
        whole = hygienic(render, literal=_LITERALS.get(name))
        forms[name] = _form(translate, name, whole, least, most)
    for name, (why, instead) in REFUSED.items():
        forms[name] = _refusing(name, why, instead)
    for alias, name in ALIASES.items():
        forms[alias] = _renamed(translate, name)
    for name in (*FUNCTIONS, *ALIASES, "pack_all"):
        table.setdefault(name, functions.FunctionSpec(name, "template", "", ()))
    _accept_group_names(translate)
    named: Any = naming
    named.NAME_PRESERVING |= {"parse_csv"}
    forms["pack_all"] = _pack_all(translate)
    forms[NUMBER] = _form(
        translate, NUMBER, lambda value: f"TRY_CAST({text_of(value)} AS DECIMAL(38,9))", 1, 1
    )
    forms["replace"] = _replace(translate)
    forms["datetime_diff"] = _datetime_diff(translate, forms["datetime_diff"])
    for name in ("toint", "tolong"):
        forms[name] = _whole(forms[name], name)
    hooks._wrap_int32 = lambda value: f"TRY_CAST({value} AS INTEGER)"
    hooks._integer_from_real = _integer_from_real
    known = ", ".join(f"'{form}'" for form in _FORMATS)
    bare = r"regexp_replace(CAST({0} AS VARCHAR), '\s*GMT\s*$', '')"
    # Before the translator's own, which read a year of two digits as one long past.
    wider = functions._TODATETIME.replace(", ", f", try_strptime({bare}, [{known}]), ", 1)
    hooks._TODATETIME = functions._TODATETIME = wider
    table["todatetime"] = functions.FunctionSpec("todatetime", "template", wider, (1,))


def _form(
    translate: Any, name: str, render: Callable[..., str], least: int, most: int | None
) -> Callable[[Any], str]:
    def form(node: Any) -> str:
        count = len(node.args)
        if count < least or (most is not None and count > most):
            upper = "or more" if most is None else f"to {most}"
            wanted = str(least) if least == most else f"{least} {upper}"
            raise refusal(name, f"{name}() takes {wanted} arguments, not {count}")
        return render(*(translate._render_arg(name, at, arg) for at, arg in enumerate(node.args)))

    return form


def _refusing(name: str, why: str, instead: str | None) -> Callable[[Any], str]:
    def form(_: Any) -> str:
        raise refusal(name, f"the embedded engine does not support {name}(): it {why}", instead)

    return form


def _renamed(translate: Any, name: str) -> Callable[[Any], str]:
    def form(node: Any) -> str:
        return translate.render_expr(dataclasses.replace(node, name=name))  # type: ignore[no-any-return]

    return form


def _replace(translate: Any) -> Callable[[Any], str]:
    """``replace(regex, rewrite, text)``: the old name of ``replace_regex``, with its own order."""

    def form(node: Any) -> str:
        if len(node.args) != 3:
            raise refusal("replace", f"replace() takes 3 arguments, not {len(node.args)}")
        pattern, rewrite, text = node.args
        value = translate.render_expr(text)
        return (
            f"regexp_replace({value}, {translate.render_regex(pattern)}, "
            f"{translate.render_expr(rewrite)}, 'g')"
        )

    return form


def _accept_group_names(translate: Any) -> None:
    """A group may have a name that RE2 takes for none; it is asked for by its number."""
    spelled = translate.to_re2_named_groups

    def to_re2(pattern: str) -> str:
        def plain(group: re.Match[str]) -> str:
            return group[0] if re.fullmatch(r"[A-Za-z_]\w*", group[1], re.ASCII) else "("

        return re.sub(r"\(\?P<([^<>]*)>", plain, spelled(pattern))

    translate.to_re2_named_groups = to_re2


def _datetime_diff(translate: Any, original: Callable[[Any], str]) -> Callable[[Any], str]:
    """Weeks are counted by the Sundays between, as startofweek() has them."""

    def form(node: Any) -> str:
        part = node.args[0] if len(node.args) == 3 else None
        if str(getattr(part, "value", "")).lower() != "week":
            return original(node)
        first, second = (
            f"(epoch_us(date_trunc('day', {t})) // 86400000000 - dayofweek({t}))"
            for t in map(translate.render_expr, node.args[1:])
        )
        return f"(({first} - {second}) // 7)"

    return form


def _whole(original: Callable[[Any], str], name: str) -> Callable[[Any], str]:
    """Out of range is null, of a constant as well."""
    bound = 2**31 if name == "toint" else 2**63

    def form(node: Any) -> str:
        value = getattr(node.args[0], "value", None) if len(node.args) == 1 else None
        if isinstance(value, float) and not -bound <= value < bound:
            return f"CAST(NULL AS {'INTEGER' if name == 'toint' else 'BIGINT'})"
        return original(node)

    return form


def _integer_from_real(real: str, bits: int) -> str:
    kind = "BIGINT" if bits == 64 else "INTEGER"
    return f"TRY_CAST(trunc({real}) AS {kind})"
