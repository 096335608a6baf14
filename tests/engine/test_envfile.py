from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.base.errors import RefusedError
from slipway.slot import envfile


def test_environment_files_are_read_like_systemd_does() -> None:
    text = "\n".join(
        ["# comment", "; comment", "", "BARE=value", 'DOUBLE="a \\"b\\" \\\\ \\$c #d"', "SINGLE='$raw \\n'", "EMPTY="]
    )
    assert envfile.parse(text) == {
        "BARE": "value",
        "DOUBLE": 'a "b" \\ $c #d',
        "SINGLE": "$raw \\n",
        "EMPTY": "",
    }


NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,10}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(NAMES, VALUES))
def test_a_rendered_environment_file_reads_back_the_same(values: dict[str, str]) -> None:
    assert envfile.parse(envfile.render(values)) == values


@pytest.mark.parametrize("character", ["\r", "\x0c", "\x85", "\u2028"])
def test_only_a_line_feed_ends_a_line(character: str) -> None:
    assert envfile.parse(f'A="x{character}B=y"\nC=z') == {"A": f"x{character}B=y", "C": "z"}


@pytest.mark.parametrize("line", ["no separator", "1NAME=x", 'OPEN="secret', "OPEN='secret", 'TAIL="a"secret'])
def test_a_malformed_line_is_named_without_its_value(line: str) -> None:
    with pytest.raises(RefusedError, match=r"env, line 2") as caught:
        envfile.parse(f"A=1\n{line}\n", "env")
    assert "secret" not in str(caught.value)


def test_a_value_in_quotes_may_have_several_lines() -> None:
    text = "A=\"x\nB=y\\\nz\"\nC='1\n#2'\nD=4\\\n5\n"
    assert envfile.parse(text) == {"A": "x\nB=yz", "C": "1\n#2", "D": "45"}
    assert envfile.parse(envfile.render({"A": 'x"\nB="y'})) == {"A": 'x"\nB="y'}


def test_a_quote_that_is_not_closed_is_not_closed_by_the_next_line() -> None:
    with pytest.raises(RefusedError, match="env, line 2: the quote is not closed, or something follows it") as caught:
        envfile.parse('A="1\n"\nB="secret'.replace("\n", "", 1) + '\nC="2"\n', "env")
    assert "secret" not in str(caught.value)


def test_a_file_of_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "env").write_bytes(b'A="\xfc"\n')
    with pytest.raises(RefusedError, match="is not in UTF-8"):
        envfile.read(tmp_path / "env")


def test_missing_counts_empty_values() -> None:
    assert envfile.missing({"A": "1", "B": ""}, ["A", "B", "C"]) == ["B", "C"]


def test_a_file_gives_back_what_was_written_to_it(tmp_path: Path) -> None:
    values = {"A": "a\rb", "B": "\u2028"}
    path = tmp_path / "env"
    path.write_bytes(envfile.render(values).encode())
    assert envfile.read(path) == values
