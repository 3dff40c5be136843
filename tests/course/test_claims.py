"""Claims: collected from what lessons wrote, kept in one file, printed in order."""
import json
import re

import pytest

from minicv.backend.machine import describe_machine
from minicv.cli import main as cli
from minicv.course import claims, lessons


def run(lesson, *found, date="2026-01-02", quick=False, **more):
    return {"lesson": lesson, "quick": quick, "seed": 0, "data": None, "seconds": 12.4, "date": date,
            "machine": "a processor", "claims": [
                {"id": id, "source": "a paper", "claim": f"{id} in words", "found": "1 < 2", "holds": holds}
                for id, holds in found], **more}


@pytest.fixture
def out(tmp_path, monkeypatch):
    """A folder of results, and no kept ones."""
    monkeypatch.setenv("MINICV_LESSONS_OUT", str(tmp_path))
    monkeypatch.setattr(claims, "KEPT_FILE", tmp_path / "docs" / "claims.json")
    (tmp_path / "docs").mkdir()
    (tmp_path / "08_unet.json").write_text(json.dumps(run("08_unet", ("S3", False), ("S2", True))))
    (tmp_path / "07_fcn.json").write_text(json.dumps(run("07_fcn", ("F10", None), ("F9b", True), ("F9a", True))))
    (tmp_path / "03_transposed.json").write_text(json.dumps(run("03_transposed", ("A3", True), quick=True)))
    return tmp_path


def test_full_runs_are_collected_in_order(out):
    found = claims.measured_claims(claims.load_runs())
    assert [f.id for f in found] == ["F9a", "F9b", "F10", "S2", "S3"]  # by number, not by alphabet; no quick run
    assert found[0].run["lesson"] == "07_fcn" and "claims" not in found[0].run
    assert [r["lesson"] for r in claims.load_runs(quick=True)] == ["03_transposed"]


def test_a_kept_run_stands_in_until_a_newer_one(out):
    assert cli.main(["claims", "--keep"]) == 0
    (out / "08_unet.json").unlink()
    assert [r["lesson"] for r in claims.load_runs()] == ["07_fcn", "08_unet"]
    (out / "08_unet.json").write_text(json.dumps(run("08_unet", ("S2", True), date="2025-12-31")))
    assert [r["date"] for r in claims.load_runs()] == ["2026-01-02", "2026-01-02"]  # that one is older
    (out / "08_unet.json").write_text(json.dumps(run("08_unet", ("S2", True), date="2026-02-01")))
    assert [r["date"] for r in claims.load_runs()] == ["2026-01-02", "2026-02-01"]
    assert [r["lesson"] for r in claims.load_runs(out)] == ["07_fcn", "08_unet"]  # a folder of one's own: that only


def test_the_command_prints_every_claim(out, capsys):
    assert cli.main(["claims"]) == 0
    text = capsys.readouterr().out
    assert """
S3  The weight map separates cells that touch.
    S3: S3 in words (a paper)
      found: 1 < 2
      -> does not hold here (08_unet)
S4  Elastic deformation is what lets U-Net learn from few images.
    no full run has measured it yet
""" in text
    # F9 (two parts), F10, S2, S3: F9a, F9b and S2 hold
    assert text.endswith("""
4 of 41 claims measured, in 5 parts: 3 hold, 1 do not hold here, 1 undecided here
  07_fcn, 2026-01-02, seed 0, generated data, 12 s, a processor
  08_unet, 2026-01-02, seed 0, generated data, 12 s, a processor
  total 25 s
""")


def test_the_command_prints_some(out, capsys):
    assert cli.main(["claims", "F9b", "S4"]) == 0
    text = capsys.readouterr().out
    assert "F9b in words" in text and "S4  Elastic" in text and "F9a in words" not in text and "S3" not in text


def test_a_claim_in_any_case_or_a_lesson(out, capsys):
    """With the runs that measured it, and nothing about the others."""
    expected = """S3  The weight map separates cells that touch.
    S3: S3 in words (a paper)
      found: 1 < 2
      -> does not hold here (08_unet)
  08_unet, 2026-01-02, seed 0, generated data, 12 s, a processor
"""
    assert cli.main(["claims", "s3"]) == 0
    assert capsys.readouterr().out == expected
    for name in ("08_unet", "unet", "8"):
        assert cli.main(["claims", name]) == 0
        text = capsys.readouterr().out
        assert expected in text and "S2 in words" in text and "07_fcn" not in text


def test_claims_that_no_document_makes_come_last(out, capsys):
    (out / "00_autograd.json").write_text(json.dumps(run("00_autograd", ("E10", True), ("E2", True))))
    (out / "01_convolution.json").write_text(json.dumps(run("01_convolution", ("C3", True))))
    assert [f.id for f in claims.measured_claims(claims.load_runs())][-3:] == ["C3", "E2", "E10"]
    assert cli.main(["claims", "E2"]) == 0
    assert capsys.readouterr().out.startswith("E2  (not on the list of claims)\n    E2: E2 in words (a paper)\n")


def test_only_full_runs_on_a_known_machine_are_kept(out, capsys):
    assert cli.main(["claims", "--keep", "--quick"]) == 2
    assert "--keep: only full runs are kept" in capsys.readouterr().err
    with pytest.raises(ValueError, match="keep: quick run: 03_transposed; run it again in full"):
        claims.keep(claims.load_runs(quick=True))
    (out / "09_other.json").write_text(json.dumps({**run("09_other", ("S2", True)), "machine": None}))
    assert cli.main(["claims", "--keep"]) == 2
    assert "keep: no machine: 09_other; run it again in full" in capsys.readouterr().err
    with pytest.raises(ValueError, match="keep: no lesson has run in full here"):
        claims.keep([])
    assert not claims.KEPT_FILE.exists()


def test_what_quick_runs_found_is_said_to_be_quick(out, capsys):
    assert cli.main(["claims", "--quick", "A3", "S3"]) == 0
    text = capsys.readouterr().out
    assert "found: 1 < 2\n      -> holds (03_transposed)" in text
    assert "S3  The weight map separates cells that touch.\n    no quick run has measured it yet" in text


def test_every_claim_has_a_lesson_that_measures_it():
    measured = {claims.base_id(id) for path in lessons.find()
                for id in re.findall(r'lesson\.claim\("([A-Z]\d+[a-z]?)"', path.read_text(encoding="utf-8"))}
    assert [id for id in claims.CLAIMS if id not in measured] == []


def test_an_unknown_claim_is_wrong_input(out, capsys):
    assert cli.main(["claims", "Q1"]) == 2
    assert "no claim Q1; there are: A1, A2, A3, A4, A5, A6, F1," in capsys.readouterr().err
    assert cli.main(["claims", "08_unett"]) == 2
    assert capsys.readouterr().err == "minicv claims: no claim 08_unett; did you mean 08_unet?\n"


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"lesson": 3}', "[" * 100_000, "{} {}", "null", json.dumps({
    "lesson": "09_other", "quick": False, "date": "2026-01-01", "seed": 0, "data": None, "seconds": 1.0,
    "claims": [{"id": "S2", "source": "", "claim": "", "found": 3, "holds": True}]})], ids=range(8))
def test_a_file_that_no_lesson_wrote_is_named(out, capsys, text):
    (out / "09_other.json").write_text(text)
    assert cli.main(["claims"]) == 2
    assert "09_other.json: this is not what a lesson writes" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "{}", "null", "[1]", '[{"lesson": "09_other"}]', "[" * 100_000], ids=range(6))
def test_the_kept_runs_are_checked_too(out, capsys, monkeypatch, text):
    monkeypatch.setattr(claims, "KEPT_FILE", out / "claims.json")
    (out / "claims.json").write_text(text)
    assert cli.main(["claims"]) == (0 if text == "{}" else 2)  # no runs
    assert text == "{}" or "claims.json: not the runs of lessons (" in capsys.readouterr().err


def test_all_claims_of_the_list_have_a_topic():
    assert len(claims.CLAIMS) == 6 + 10 + 12 + 9 + 4
    assert list(claims.TOPICS) == ["A", "F", "S", "D", "M"]
    assert sorted(claims.CLAIMS, key=claims.sort_key) == list(claims.CLAIMS)
    assert {id[0] for id in claims.CLAIMS} == set(claims.TOPICS)


def test_a_lesson_notes_the_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("MINICV_LESSONS_OUT", str(tmp_path))
    lesson = lessons.Lesson("08_unet")
    lesson.claim("S2", "a paper", "no seams", "0.1", True)
    lesson.finish()
    (kept,) = claims.load_runs(tmp_path, quick=lesson.quick)
    assert kept["machine"] == describe_machine() and "cores, NumPy " in kept["machine"] and kept["version"]


def test_what_is_kept_in_the_documentation_can_be_read():
    if claims.KEPT_FILE.exists():
        for kept in json.loads(claims.KEPT_FILE.read_text(encoding="utf-8")):
            assert not kept["quick"] and kept["machine"] and kept["claims"]
