import json

import pytest

from perf import presets
from src.errors import UserError


def write_result(folder, name, texts, passes, right, **scores):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps({"id": n, "response": text}) + "\n" for n, text in enumerate(texts)))
    (folder / f"{name}.meta.json").write_text(json.dumps({
        "forward_passes_per_item": passes, "tokens_per_item": 1.5, "fixed_tokens_per_item": 1.5 + passes,
    }))  # fmt: skip
    levels = {"total": {"total": {"official": right / len(texts)}}}
    (folder / f"{name}.scores.json").write_text(json.dumps({"levels": levels} | scores))


def test_results_of_an_earlier_version_are_refused(tmp_path):
    write_result(tmp_path, "mmau.jsonl", ["a"], 16.0, 1, benchmark="mmau")
    (tmp_path / "mmau.jsonl.meta.json").write_text(json.dumps({"forward_passes_per_item": 16.0}))
    with pytest.raises(UserError, match=r"mmau\.jsonl was answered by an earlier version; pass another --output"):
        list(presets.results_in(tmp_path))


def test_modes_are_held_against_the_first(tmp_path):
    for mode, texts, passes, right in (("exact", "abcd", 16.0, 3), ("fast", "abxy", 4.0, 2)):
        write_result(tmp_path / mode, "mmau.jsonl", list(texts), passes, right, benchmark="mmau")
        qa = {"benchmark": "voicebench", "subset": "sd-qa", "contains_reference": right / 2 - 0.5}
        write_result(tmp_path / mode / "voicebench", "sd-qa.jsonl", list(texts[:2]), passes / 2, 0, **qa)
    results = {mode: list(presets.results_in(tmp_path / mode)) for mode in ("exact", "fast")}
    rows = {(row.mode, row.benchmark): row for row in presets.compare(results)}
    exact, fast, spoken = rows["exact", "mmau"], rows["fast", "mmau"], rows["fast", "sd-qa"]
    assert (exact.passes_fewer, exact.same_text, exact.right) == (1, 1, 3)
    assert (fast.passes_fewer, fast.same_text, fast.right, fast.right_exact) == (4, 0.5, 2, 3)
    assert (spoken.same_text, spoken.right, spoken.right_exact) == (1, 1, 2)
    both = rows["fast", "together"]
    assert (both.items, both.right, both.right_exact) == (6, 3, 5)
    assert both.passes == pytest.approx((4 * 4 + 2 * 2) / 6) and both.passes_fewer == pytest.approx(80 / 20)
    assert both.same_text == pytest.approx(4 / 6)
    assert (exact.seen, exact.unseen, fast.unseen, both.seen) == (1.5, 16, 4, 1.5)
    assert both.unseen == pytest.approx((4 * 4 + 2 * 2) / 6)
    assert "-33.3" in presets.table(list(rows.values()))
