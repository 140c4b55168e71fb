"""Keys of a TOML text are found where they stand."""

from __future__ import annotations

import pytest

from qakhunt.core.errors import ConfigError
from qakhunt.core.toml_document import parse_toml

TEXT = '''\
top = 1
text = """
fake = 1
[fake]
"""
list = [
  "a]", # ]
  "b",
]

[profiles.contoso] # the first
tenant = "x"
limits.calls = 3
inline = { a = 1, b = [2] }

[profiles."two words"]
  'odd key' = true

[[rules]]
name = "first"
[[rules]]
name = "second"
'''


@pytest.mark.parametrize(
    ("path", "line", "column"),
    [
        (("top",), 1, 1),
        (("list",), 6, 1),
        (("profiles", "contoso"), 11, 1),
        (("profiles", "contoso", "tenant"), 12, 1),
        (("profiles", "contoso", "limits", "calls"), 13, 1),
        (("profiles", "contoso", "limits"), 13, 1),
        (("profiles", "contoso", "inline", "b", 0), 14, 1),
        (("profiles", "two words", "odd key"), 17, 3),
        (("rules", 0, "name"), 20, 1),
        (("rules", 1, "name"), 22, 1),
    ],
)
def test_a_key_is_found_at_its_line(path: tuple[str | int, ...], line: int, column: int) -> None:
    place = parse_toml(TEXT, "c.toml", ConfigError).locate(path)
    assert (place.path, place.line, place.column) == ("c.toml", line, column)


def test_keys_inside_a_long_text_are_none() -> None:
    assert ("fake",) not in parse_toml(TEXT, "c.toml", ConfigError).places


def test_broken_toml_tells_where() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_toml('a = 1\nb = "open\n', "c.toml", ConfigError)
    assert caught.value.location is not None
    assert caught.value.location.line == 2
    assert "(at line" not in caught.value.message
