import pytest

from data_prep.corpus_files import any_case, member, read_lines
from tests.data_prep.corpora import put_text


def test_names_are_found_in_any_case(tmp_path):
    put_text(tmp_path / "Data" / "A.TXT", "x")
    assert member(tmp_path, "data", "a.txt") == tmp_path / "Data" / "A.TXT"
    assert member(tmp_path, "data", "b.txt") == tmp_path / "Data" / "b.txt"
    assert any_case("a[!b]*/1_c") == "[aA][!b]*/1_[cC]"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_texts_in_the_usual_encodings(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes("I’m at the café\rso\r\nit\n".encode(encoding))
    assert read_lines(tmp_path / "a.txt") == ["I’m at the café", "so", "it", ""]
