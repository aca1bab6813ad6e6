import tomllib

from hypothesis import given
from hypothesis import strategies as st

from govc.auth.toml_lines import find_lines

DOCUMENT = '''\
# [[rule]] in a comment
title = "[[rule]]"

[groups]
ann = ["x",
       "y = 1",   # key = "no"
]
"b c" = []

[[rule]]
text = """
[[rule]]
write = 1
"""
write = 3
  [[rule]] # indented
literal = \'\'\'
key = 1
\'\'\'
a.b = 1
write = { x = 1 }

[[rule.sub]]
z = 1
[table.inner]
q = 1
'''


def test_where_tables_and_keys_stand():
    lines = find_lines(DOCUMENT)
    expected = {
        ("title",): 2,
        ("groups",): 4,
        ("groups", "ann"): 5,
        ("groups", "b c"): 8,
        ("rule", 0): 10,
        ("rule", 0, "text"): 11,
        ("rule", 0, "write"): 15,
        ("rule", 1): 16,
        ("rule", 1, "literal"): 17,
        ("rule", 1, "a", "b"): 20,
        ("rule", 1, "write"): 21,
        ("rule", 1, "sub", 0): 23,
        ("rule", 1, "sub", 0, "z"): 24,
        ("table", "inner"): 25,
        ("table", "inner", "q"): 26,
    }
    tomllib.loads(DOCUMENT)
    assert expected == lines


def test_carriage_returns_do_not_count():
    assert {("a",): 1, ("t",): 2, ("t", "b"): 3} == find_lines("a = 1\r\n[t]\r\nb = 2\r\n")


def test_brackets_inside_strings_do_not_count():
    text = 'a = ["]", \'[\', """[[""", # [\n"x"]\nb = 2\n'
    tomllib.loads(text)
    assert {("a",): 1, ("b",): 3} == find_lines(text)


VALUES = st.sampled_from(
    [
        "1",
        '"x # [y] = 2"',
        "'[[z]]'",
        '"""\n[[rule]]\nk = 1\n"""',
        "'''\na = [\n'''",
        '[1,\n "]",\n 2]',
        "[\n[1, 2]\n]",
        "{ a = 1 }",
        '"\\""',
    ]
)
LINES = st.lists(st.sampled_from(["", "# k = 1", "  # [[rule]]"]) | VALUES, max_size=12)


@given(st.lists(LINES, max_size=3))
def test_property_each_key_is_found_where_it_was_written(tables):
    text, expected, number = "", {}, 1
    for index, lines in enumerate(tables):
        text += "[[rule]]\n"
        expected["rule", index] = number
        number += 1
        for position, line in enumerate(lines):
            if line and not line.lstrip().startswith("#"):
                expected["rule", index, f"k{position}"] = number
                line = f"k{position} = {line}"
            text += line + "\n"
            number += line.count("\n") + 1
    tomllib.loads(text)
    assert expected == find_lines(text)


@given(st.text("[]=\"'\\\n#ab,.{} ", max_size=100))
def test_property_any_valid_document_ends(text):
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert all(1 <= line <= text.count("\n") + 1 for line in find_lines(text).values())
