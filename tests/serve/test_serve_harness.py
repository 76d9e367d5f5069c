"""lm-evaluation-harness itself against the server (``make serve-harness``, which installs it beside)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from serving import entry, generated, served, talking

from trimtab.load.loaded import Loaded

ROWS = [{"question": f"w{a} w{a + 3} w9", "choices": ["w20 w21", "w30", "w40 w5 w6"], "answer": a % 3}
        for a in range(10, 22)]  # fmt: skip
CHOICES = """
task: chosen
output_type: multiple_choice
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
SAID = """
task: said
output_type: generate_until
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["w30"], max_gen_toks: 6, temperature: 0}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
DATA = """
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
doc_to_text: "{{question}}"
"""


@torch.no_grad()
def reference(loaded: Loaded, row: dict[str, Any]) -> list[float]:
    sums = []
    for choice in row["choices"]:
        context, both = (
            loaded.tokenizer(text)["input_ids"] for text in (row["question"], f"{row['question']} {choice}")
        )
        logits = loaded.library(torch.tensor([both])).logits[0].log_softmax(-1)
        sums.append(sum(float(logits[at - 1, both[at]]) for at in range(len(context), len(both))))
    return sums


@pytest.mark.slow
def test_the_harness_scores_and_generates_as_the_model(tmp_path: Path) -> None:
    loaded = talking()
    loaded.tokenizer.save_pretrained(tmp_path / "words")
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (tmp_path / "tasks").mkdir()
    for text in (CHOICES, SAID):
        where = DATA.replace("DATA", str(tmp_path / "data.jsonl"))
        (tmp_path / "tasks" / f"{text.split()[1]}.yaml").write_text(text + where)
    with served(entry(loaded)) as one:
        options = {"model": "tiny", "base_url": f"{one.url}/v1/completions", "tokenizer": tmp_path / "words",
                   "num_concurrent": 4, "max_length": 120}  # fmt: skip
        command = [sys.executable, "-m", "lm_eval", "--model", "local-completions", "--tasks", "chosen,said",
                   "--include_path", str(tmp_path / "tasks"), "--output_path", str(tmp_path / "out"), "--log_samples",
                   "--model_args", ",".join(f"{key}={value}" for key, value in options.items())]  # fmt: skip
        env = os.environ | {"HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert one.house.meters.counts["failed"] == one.house.meters.counts["refused"] == 0
    for row in logged(tmp_path, "chosen"):
        wanted = reference(loaded, ROWS[row["doc_id"]])
        found = [float(answer[0][0]) for answer in row["resps"]]
        assert found == pytest.approx(wanted, abs=1e-3)
    for row in logged(tmp_path, "said"):
        said = generated(loaded, loaded.tokenizer(ROWS[row["doc_id"]]["question"])["input_ids"], 6)
        text = loaded.tokenizer.decode(said, skip_special_tokens=True)
        assert row["resps"][0][0].strip() == text.partition("w30")[0].strip()


def logged(folder: Path, task: str) -> list[dict[str, Any]]:
    file = next((folder / "out").rglob(f"samples_{task}_*.jsonl"))
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == len(ROWS)
    return rows
