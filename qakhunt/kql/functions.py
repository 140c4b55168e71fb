"""What the functions of the language may be relied upon for.

A function that stands in none of these sets is unknown: nothing is proved of a
query that calls it.
"""

from __future__ import annotations

from functools import cache


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DETERMINISTIC = _words(
    # Text
    "tolower toupper strlen substring split strcat strcat_delim strcat_array strcmp strrep "
    "replace replace_string replace_strings replace_regex extract extract_all extract_json "
    "extractjson trim trim_start trim_end countof indexof indexof_regex reverse translate "
    "isempty isnotempty isnull isnotnull notempty notnull isascii isutf8 has_any_index "
    "base64_decode_tostring base64_encode_tostring base64_decode_toarray url_decode url_encode "
    "url_encode_component parse_url parse_urlquery parse_path parse_command_line parse_csv "
    "parse_xml parse_user_agent parse_version punycode_from_string punycode_to_string "
    "to_utf8 make_string unicode_codepoints_from_string unicode_codepoints_to_string "
    # Conversions
    "tostring toint tolong toreal todouble todecimal tobool toboolean todatetime totimespan "
    "toguid tohex todynamic parse_json toobject gettype "
    # Conditions and numbers
    "iff iif case coalesce not max_of min_of abs ceiling floor round sign sqrt pow exp exp2 exp10 "
    "log log2 log10 isnan isinf isfinite binary_and binary_or binary_xor binary_not "
    "binary_shift_left binary_shift_right bitset_count_ones "
    # Time
    "bin bin_at datetime_add datetime_diff datetime_part datetime_utc_to_local "
    "datetime_local_to_utc dayofmonth dayofweek dayofyear hourofday monthofyear getmonth getyear "
    "week_of_year startofday startofweek startofmonth startofyear endofday endofweek endofmonth "
    "endofyear make_datetime make_timespan format_datetime format_timespan format_bytes "
    "unixtime_seconds_todatetime unixtime_milliseconds_todatetime "
    "unixtime_microseconds_todatetime unixtime_nanoseconds_todatetime "
    # Dynamic values
    "array_length array_index_of array_concat array_iff array_slice array_split array_sum "
    "array_reverse array_rotate_left array_rotate_right array_shift_left array_shift_right "
    "array_sort_asc array_sort_desc bag_keys bag_has_key bag_merge bag_pack bag_remove_keys "
    "bag_set_key bag_zip pack pack_array pack_dictionary repeat zip treepath jaccard_index "
    "set_difference set_intersect set_union set_has_element dynamic_to_json "
    # Networks and hashes
    "ipv4_is_private ipv4_is_in_range ipv4_is_in_any_range ipv4_is_match ipv4_compare "
    "ipv4_netmask_suffix parse_ipv4 parse_ipv4_mask format_ipv4 format_ipv4_mask has_ipv4 "
    "has_any_ipv4 has_ipv4_prefix has_any_ipv4_prefix ipv6_is_match ipv6_is_in_range "
    "ipv6_is_in_any_range ipv6_compare parse_ipv6 parse_ipv6_mask geo_info_from_ip_address "
    "hash hash_md5 hash_sha1 hash_sha256 hash_xxhash64 hash_many "
    "typeof pack_all column_ifexists estimate_data_size"
)
"""Same arguments, same value, on whatever day and in whatever order."""

CLOCK = frozenset(["now", "ago"])
"""Fixed by the run's ``now``; a service takes its own clock."""

AGGREGATES = _words(
    "count countif dcount dcountif count_distinct count_distinctif sum sumif avg avgif min minif "
    "max maxif arg_max arg_min make_set make_set_if make_list make_list_if make_bag make_bag_if "
    "make_list_with_nulls take_any take_anyif any anyif stdev stdevif stdevp variance varianceif "
    "variancep percentile percentiles percentiles_array percentilew percentilesw binary_all_and "
    "binary_all_or binary_all_xor hll hll_merge hll_if dcount_hll tdigest tdigest_merge "
    "merge_tdigest percentile_tdigest dcount_intersect buildschema"
)

WINDOW_RESTART = {
    "row_cumsum": 1, "row_number": 1, "row_rank_dense": 1, "row_rank_min": 1,
    "row_window_session": 3,
}  # fmt: skip
"""Functions over the rows before -> the position of the argument that starts them anew."""

WINDOW = frozenset([*WINDOW_RESTART, "prev", "next"])

UNREPEATABLE = frozenset(["rand", "new_guid", "ingestion_time", "current_principal"])
"""Another value, or one that only the service knows, each time it is asked."""

OUTSIDE = _words(
    "externaldata external_table table database cluster workspace app resource adx arg "
    "materialized_view stored_query_result cursor_after cursor_before_or_at _GetWatchlist"
)
"""Reads from elsewhere than the tables that the query names."""


@cache
def function_names() -> frozenset[str]:
    """Every function, aggregate and plugin of the language."""
    from importlib.resources import files

    import msgspec

    text = files("qakhunt").joinpath("data/kql_functions.json").read_text(encoding="utf-8")
    data = msgspec.json.decode(text)
    names = [*data["functions"], *data["aggregates"], *data["plugins"]]
    return frozenset([*names, "typeof", "materialize", "toscalar"])
