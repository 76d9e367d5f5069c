"""What is in the page and its twin: every figure, every section, hostile text as text, and nothing from elsewhere."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from report.fixture import BREAKER, HOSTILE, RECIPE, VARIANTS, make, predictions
from trimtab.core.errors import BadInput, Refused
from trimtab.report import render
from trimtab.report.table import Cell, Table, columns, escape, fence, markdown

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Elements with their attributes, the text without scripts and styles, and whether every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs) -> None:  # type: ignore[no-untyped-def]
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:  # type: ignore[no-untyped-def]
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def rendered(folder: Path, variant: str = "accepted", **options: bool) -> tuple[Page, str, Path]:
    run = make(folder / "run", variant)
    render(run, **options)
    return Page((run / "report.html").read_text()), (run / "report.md").read_text(), run


def figures(page: Page) -> list[tuple[str, float, str | None, str | None]]:
    return [(a["data-reading"], json.loads(a["data-value"]), a.get("data-low"), a.get("data-high"))
            for _, a in page.tags if "data-reading" in a]  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_written_and_asks_for_nothing(tmp_path: Path, variant: str) -> None:
    page, text, run = rendered(tmp_path, variant)
    verdict = json.loads((run / "result.json").read_text())["verdict"]
    assert verdict in page.text
    assert verdict in text
    keys = {key for _, attrs in page.tags for key in attrs}
    assert not keys & {"src", "srcset", "data", "action", "xlink:href", "poster", "style"}
    assert not any(key.startswith("on") for key in keys)
    assert [a["href"] for tag, a in page.tags if "href" in a and not str(a["href"]).startswith("#")] == []
    ours = re.sub(r"<script>.*?</script>", "", (run / "report.html").read_text(), flags=re.S)
    assert "url(" not in ours
    assert "http" not in ours.replace("http-equiv", "")
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = {str(attrs["href"])[1:] for tag, attrs in page.tags if tag == "a"}
    assert links <= set(ids)


@pytest.mark.parametrize("variant", VARIANTS)
def test_figures_are_those_of_the_run(tmp_path: Path, variant: str) -> None:
    page, _, run = rendered(tmp_path, variant)
    rows = [json.loads(line) for line in (run / "readings.jsonl").read_text().splitlines()]
    expected = {f"{row['when']}/{row['name']}": row for row in rows}
    shown = figures(page)
    for name, value, low, high in shown:
        row = expected[name]
        assert value == row["value"] or (value != value and row["value"] != row["value"])
        assert [float(low), float(high)] == row["spread"] if low and high else row["spread"] is None
    ends = {name for name, row in expected.items() if row["when"] in ("before", "after")}
    assert ends <= {name for name, *_ in shown}


def test_sections_in_the_order_of_a_sceptic(tmp_path: Path) -> None:
    page, _, _ = rendered(tmp_path)
    sections = [attrs["id"] for tag, attrs in page.tags if tag == "section"]
    assert sections == ["verdict", "notes", "figures", "cost", "time", "energy", "efficiency", "arithmetic",
                        "predicted", "roofline", "spent", "robust", "controls", "audit",
                        "layers", "steps", "recipe", "load", "machine", "stages"]  # fmt: skip
    assert "Of 2,000 questions, 19 became wrong and 14 became right: 33 flips (1.7 %), net \u22120.2 pt." in page.text
    assert "1.4x SLOWER" in page.text
    assert 'trimtab.load("artifact")' in page.text
    assert "trimtab generate artifact --image FILE" in page.text
    assert "9f2c" * 16 in page.text
    assert "2.3x, OFF" in page.text
    assert "gate, logits holds bit-equal on 4 batches" in page.text
    assert "on 2 samples: logits differ by 0.0312 at most, 0.581 is allowed." in page.text


def test_the_table_claims_no_more_than_the_verdict(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    result = json.loads((run / "result.json").read_text())
    result["axes"][3] |= {"status": "same", "text": "latency.decode.b1: 1.4x of what it was."}
    (run / "result.json").write_text(json.dumps(result))
    render(run)
    text = (run / "report.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| Decode time per token, batch 1")]
    assert len(rows) == 3
    assert all("1.4x SLOWER (not sure, see the verdict)" in row and "**" not in row for row in rows[:2])
    assert "of what it was" not in text


def test_every_drawing_has_a_name_a_description_and_a_table(tmp_path: Path) -> None:
    page, _, run = rendered(tmp_path)
    html = (run / "report.html").read_text()
    drawings = [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("role") == "img"]
    ids = {attrs.get("id") for _, attrs in page.tags}
    assert len(drawings) == 4 + 2 + 1 + 4 + 4 + 8 + 1 + 4 + 4
    assert all(set(str(one["aria-labelledby"]).split()) <= ids for one in drawings)
    assert sum(tag == "figure" for tag, _ in page.tags) == 9
    assert sum(tag == "details" for tag, _ in page.tags) == 7  # the tables of predictions and robustness are open
    lives = [attrs["data-chart"] for _, attrs in page.tags if "data-chart" in attrs]
    data = re.search(r'<script type="application/json" id="plots">(.*?)</script>', html, re.S)
    assert data is not None
    assert sorted(json.loads(data[1])) == sorted(lives)


def test_robustness_has_a_row_for_each_picture_and_claims_only_what_its_interval_does(tmp_path: Path) -> None:
    page, text, _ = rendered(tmp_path)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in _table_of(text, "| Picture |")[2:]]
    assert [row[0] for row in rows] == ["as it is, the same questions", "image missing", "noise, severity 3",
                                        "jpeg, severity 3", "blur, severity 1"]  # fmt: skip
    changes = {row[0]: row[3] for row in rows}
    assert changes["noise, severity 3"] == "**\u22126.3 pt LOWER** (\u22129.3 pt to \u22123.6 pt)"
    assert changes["blur, severity 1"] == "+7.3 pt (+4.5 pt to +10.5 pt)"
    assert changes["jpeg, severity 3"] == "+0.3 pt (\u22121.4 pt to +2.1 pt)"
    assert changes["image missing"] == "\u22121.0 pt (\u22123.6 pt to +1.6 pt)"
    assert [row[4:] for row in rows][2] == ["21 lost, 2 gained", "300"]
    assert "Surely worse after trimming on: noise, severity 3 (\u22126.3 pt). Each interval alone" in page.text
    assert "of 3, one may miss by chance." in page.text
    before_after = "\n".join(_table_of(text, "| Figure | Before |"))
    assert "severity" not in before_after
    assert "as it is" not in before_after
    assert "image missing" not in before_after
    shown = next(a for tag, a in page.tags if tag == "svg" and a.get("aria-labelledby") == "robust-t robust-d")
    assert shown["role"] == "img"
    assert "noise 3, before, Accuracy, easyvqa, noise, severity 3: 93.7 % (90.3 to 95.9 %)" in page.text


def test_a_missing_picture_is_no_worse_or_better(tmp_path: Path) -> None:
    from trimtab.report.plots.robust import paired

    row = {"change": -0.1, "low": -0.2, "high": -0.05}
    assert paired("accuracy.x.missing", row).tone == "quiet"
    assert paired("accuracy.x.noise3", row).tone == "bad"
    assert paired("accuracy.x.clean", row).tone == "bad"
    assert paired("accuracy.x.noise3", row | {"high": 0.0}).tone == "quiet"
    assert paired("accuracy.x.noise3", {"change": 0.1, "low": 0.01, "high": 0.2}).tone == "good"


def test_a_run_without_pictures_has_no_robustness(tmp_path: Path) -> None:
    page, text, _ = rendered(tmp_path, "language")
    assert "Robustness" not in page.text
    assert "Robustness" not in text


def test_inconclusive_says_how_many_more(tmp_path: Path) -> None:
    page, text, _ = rendered(tmp_path, "inconclusive")
    assert "3,400 more samples would decide it" in page.text
    assert "3,400 more samples would decide it" in text


def test_an_ablation_says_so_first_and_shows_its_arms_and_weights(tmp_path: Path) -> None:
    page, text, _ = rendered(tmp_path, "ablation")
    first = "calibrate.audit: ablation, the arm 'balanced'. This run compares ways to calibrate"
    assert text.splitlines()[0].startswith(f"**OVERRIDE** {first}")
    assert page.text[page.text.index("OVERRIDE") :].startswith(f"OVERRIDE {first}")
    table = text[text.index("## Ways to calibrate") : text.index("## Error by layer")]
    names = [line.split("|")[1].split()[0] for line in table.splitlines() if line.startswith("| ")]
    assert names[2:] == ["pooled", "balanced", "text", "image"]
    assert "92.0" in table, "the quality of the arm image, 0.93, and of text, 0.92"
    assert table.count("\N{MINUS SIGN}1.2 pt") == 4
    audit = text[text.index("## Calibration audit") : text.index("## Ways to calibrate")]
    assert "In the decoder image tokens counted r, by block." in audit
    assert "0.123" in audit
    assert "0.740" in audit
    for words in ("Ways to calibrate", "0.740", "image tokens by r, this run"):
        assert words in page.text


def test_a_plain_run_has_no_arms(tmp_path: Path) -> None:
    page, text, _ = rendered(tmp_path)
    assert "Ways to calibrate" not in text + page.text
    assert "counted r" not in text


def test_an_override_is_the_first_line(tmp_path: Path) -> None:
    page, text, _ = rendered(tmp_path, "regression")
    body = page.text.split("Skip to the verdict")[1]
    assert body.strip().startswith("OVERRIDE allow: text_only.")
    assert text.splitlines()[0].startswith("**OVERRIDE** allow: text")
    assert "1 BROKEN" in page.text
    assert "80 of 81 hold; lm_head: stored as Dense" in page.text


def test_a_language_model_is_judged_by_perplexity(tmp_path: Path) -> None:
    page, text, _ = rendered(tmp_path, "language")
    assert "Perplexity, text" in page.text
    assert "Accuracy" not in page.text
    assert "Not needed: the model takes no images." in text
    assert "--image" not in page.text


def test_what_was_not_measured_says_so(tmp_path: Path) -> None:
    page, text, _ = rendered(tmp_path, "missing")
    assert "not measured" in page.text
    assert "not finite" in page.text
    assert "NOT FINITE" in text
    assert not {"load", "machine", "audit", "layers"} & {a.get("id") for tag, a in page.tags if tag == "section"}


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    page, text, _ = rendered(tmp_path, "hostile")
    assert sum(tag == "script" for tag, _ in page.tags) == 3
    assert not any(tag == "img" for tag, _ in page.tags)
    assert page.text.count(HOSTILE) >= 8
    assert page.text.count(BREAKER) >= 8
    assert "withheld)" not in page.text
    assert "<script" not in text
    assert "<img" not in text
    assert "{{ 7*7 }}" in page.text
    assert len({line.count("|") - line.count("\\|") for line in _table_of(text, "What | Value")}) == 1
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def _table_of(text: str, head: str) -> list[str]:
    lines = text.splitlines()
    start = next(index for index, line in enumerate(lines) if head in line)
    return lines[start : next(i for i in range(start, len(lines)) if not lines[i])]


def test_samples_are_shown_only_when_asked_and_stamped(tmp_path: Path) -> None:
    plain, text, run = rendered(tmp_path)
    for row in predictions():
        assert row["id"] not in plain.text + text
    assert "secret triangle" not in plain.text + text
    render(run, with_samples=True)
    page, text = Page((run / "report.html").read_text()), (run / "report.md").read_text()
    assert page.text.split("Skip to the verdict")[1].strip().startswith("CONTAINS SAMPLES")
    assert text.startswith("**CONTAINS SAMPLES**")
    assert page.text.count("secret triangle") == 4
    assert "patient-3.png" in page.text
    assert "patient-1.png" not in page.text


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("result.json", None, "missing"), ("result.json", "{", "not valid JSON"),
        ("readings.jsonl", '{"when": "before"}\n', "row 1: no name, value"),
        ("readings.jsonl", "{}\nnope\n", "line 2"), ("recipe.resolved.yaml", "a: [", "not YAML"),
        ("recipe.resolved.yaml", "- a\n", "a recipe is a mapping"),
    ],
)  # fmt: skip
def test_a_broken_folder_is_named(tmp_path: Path, file: str, content: str | None, words: str) -> None:
    run = make(tmp_path / "run")
    (run / file).unlink() if content is None else (run / file).write_text(content)
    with pytest.raises(BadInput, match=words) as caught:
        render(run)
    assert file in str(caught.value)
    assert not (run / "report.html").exists()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    (run / "result.json").write_text('{"format": 2}')
    with pytest.raises(Refused, match="format 2"):
        render(run)


def test_markdown_cells_keep_to_their_line() -> None:
    rows = ((Cell("a|b\n# c `d`"), Cell("1.4x SLOWER", "bad")),)
    assert markdown(Table("", columns("What", "#How"), rows)).splitlines()[-1] == (
        "| a\\|b \\# c \\`d\\` | **1.4x SLOWER** |"
    )
    assert escape("<b>&") == "&lt;b&gt;&amp;"
    assert fence("a\n````\nb").startswith("`````\n")


def test_the_recipe_reads_back(tmp_path: Path) -> None:
    _, text, _ = rendered(tmp_path)
    block = re.search(r"```yaml\n(.*?)\n```", text, re.S)
    assert block is not None
    assert yaml.safe_load(block[1]) == yaml.safe_load(RECIPE)
