"""The command line of vLLM: what stands in it, where from, and what is refused before it would fail elsewhere."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deploying import artifact, codes, described, exported
from typer.testing import CliRunner

from trimtab.cli.deploy import deploy
from trimtab.core.errors import BadInput, Refused
from trimtab.serve.deploy.exported import read
from trimtab.serve.deploy.vllm import Command, Wanted, command


def options(made: Command) -> dict[str, str]:
    words = made.arguments[3:]
    assert len(words) % 2 == 0
    return dict(zip(words[::2], words[1::2], strict=True))


def test_every_option_is_the_folders_or_the_users(tmp_path: Path) -> None:
    folder = exported(tmp_path / "made", described("compressed-tensors", codes(4)), "compressed-tensors")
    made = command(folder, Wanted(port=8123, items=3))
    assert made.arguments[:3] == ("vllm", "serve", str(folder))
    assert options(made) == {
        "--host": "127.0.0.1", "--port": "8123", "--allowed-origins": "[]", "--served-model-name": "made",
        "--dtype": "bfloat16", "--max-model-len": "2048", "--limit-mm-per-prompt": '{"image": 3}',
        "--tensor-parallel-size": "1",
    }  # fmt: skip
    assert made.environment == {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    assert made.notes == ()


def test_the_users_wishes_are_taken(tmp_path: Path) -> None:
    wanted = Wanted("0.0.0.0", 80, "mine", "float16", 512, 1, 1, "cpu")
    made = command(exported(tmp_path / "made"), wanted)
    found = options(made)
    assert [found[key] for key in ("--host", "--served-model-name", "--dtype", "--max-model-len")] == [
        "0.0.0.0", "mine", "float16", "512"]  # fmt: skip
    assert made.environment["VLLM_CPU_INT4_W4A8"] == "0"
    assert "VLLM_API_KEY" in made.notes[-1]
    said = subprocess.run(["sh", "-c", made.script()], env={}, capture_output=True, text=True, check=False)
    assert said.returncode != 0
    assert "VLLM_API_KEY: others can reach the port" in said.stderr, "without a token it does not start"


def test_a_model_of_words_has_no_limit_of_pictures_and_one_of_vectors_is_pooled(tmp_path: Path) -> None:
    words = exported(tmp_path / "words", vision_config=None, architectures=["LlamaForCausalLM"])
    assert "--limit-mm-per-prompt" not in options(command(words, Wanted()))
    both = exported(tmp_path / "both", architectures=["CLIPModel"])
    assert options(command(both, Wanted()))["--runner"] == "pooling"
    hears = exported(tmp_path / "hears", model_type="whisper")
    assert options(command(hears, Wanted()))["--limit-mm-per-prompt"] == '{"audio": 1}'


def test_the_shell_takes_the_script_apart_as_it_was_put_together(tmp_path: Path) -> None:
    folder = exported(tmp_path / "it's $HOME; here", notes=["without the policies divprune:\nquality"])
    made = command(folder, Wanted())
    script = tmp_path / "run.sh"
    script.write_text(made.script())
    (tmp_path / "vllm").write_text('#!/bin/sh\nenv | grep HF_HUB\nfor word in "$@"; do echo "$word"; done\n')
    (tmp_path / "vllm").chmod(0o755)
    done = subprocess.run(["sh", str(script), "--enforce-eager"], env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.splitlines() == ["HF_HUB_OFFLINE=1", *made.arguments[1:], "--enforce-eager"]
    assert "# - without the policies divprune: quality" in made.script()


@pytest.mark.parametrize(
    ("name", "bits", "symmetric", "said"),
    [
        ("compressed-tensors", 2, True, "codes of 2 bits"),
        ("gptq", 2, True, "codes of 2 bits"),
        ("gptq", 3, True, "codes of 3 bits"),
        ("gptq", 4, False, "--format compressed-tensors, or awq"),
    ],
)
def test_codes_without_a_kernel_are_refused(tmp_path: Path, name: str, bits: int, symmetric: bool, said: str) -> None:
    folder = exported(tmp_path / "made", described(name, codes(bits, symmetric=symmetric)), name)
    with pytest.raises(Refused, match=said):
        read(folder)


@pytest.mark.parametrize(("name", "symmetric"), [("compressed-tensors", False), ("gptq", True), ("awq", False)])
def test_codes_with_a_kernel_are_taken(tmp_path: Path, name: str, symmetric: bool) -> None:
    assert read(exported(tmp_path / "made", described(name, codes(4, symmetric=symmetric)), name)).format == name


def test_what_fails_on_cpus_is_refused_there_alone(tmp_path: Path) -> None:
    eight = exported(tmp_path / "eight", described("compressed-tensors", codes(8)), "compressed-tensors")
    assert command(eight, Wanted()).notes == ()
    with pytest.raises(Refused, match="no kernel on CPUs"):
        command(eight, Wanted(device="cpu"))
    rounds = described("compressed-tensors", codes(8, 192), rounds=True)
    command(exported(tmp_path / "w8a8", rounds, "compressed-tensors"), Wanted(device="cpu"))
    tower = described("compressed-tensors", codes(8, 192), rounds=True, where="re:.*vision_model.layers.0.fc1")
    folder = exported(tmp_path / "tower", tower, "compressed-tensors")
    with pytest.raises(Refused, match=r"targets: \[language\]"):
        command(folder, Wanted(device="cpu"))
    assert "vision tower" in command(folder, Wanted()).notes[0]


def test_an_artifact_of_ours_gets_the_command_that_exports_it(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"--format dense --out \S+/plain-vllm, or trimtab serve"):
        read(artifact(tmp_path / "plain"))
    with pytest.raises(Refused, match=r"policies divprune .* --format compressed-tensors --without-policies --out"):
        read(artifact(tmp_path / "trimmed", codes(4), "divprune"))


@pytest.mark.parametrize(("name", "said"), [("gguf", "llama-server"), ("onnx", "onnxruntime"), ("openvino", "genai")])
def test_other_engines_folders_name_their_engine(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        read(exported(tmp_path / "made", name=name))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such folder"):
        read(tmp_path / "nowhere")
    unknown = exported(tmp_path / "unknown", name=None)
    assert "nobody has compared it" in read(unknown).notes[0]
    (unknown / "processor_config.json").unlink()
    with pytest.raises(BadInput, match="sees, but has no processor_config"):
        read(unknown)
    for path in unknown.glob("token*"):
        path.unlink()
    with pytest.raises(Refused, match="no tokenizer"):
        read(unknown)
    foreign = exported(tmp_path / "foreign", {"quant_method": "hqq"})
    with pytest.raises(Refused, match="got 'hqq'"):
        read(foreign)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"length": 4096}, "made for 2048; accepted: 1 to 2048"),
        ({"dtype": "float32"}, "accepted: bfloat16, float16"),
        ({"dtype": "bf16"}, "nearest: 'bfloat16'"),
        ({"parts": 2}, "accepted: 1$"),
        ({"parts": 300_000_000}, "accepted: 1$"),
        ({"device": "tpu"}, "accepted: cpu, gpu"),
    ],
)
def test_wishes_that_cannot_be_met_say_what_can(tmp_path: Path, wanted: dict[str, Any], said: str) -> None:
    folder = exported(tmp_path / "made", described("awq", codes(4)), "awq")
    with pytest.raises(BadInput, match=said):
        command(folder, replace(Wanted(), **wanted))


@pytest.mark.parametrize(
    ("heads", "pairs", "inner", "parts", "even"),
    [(8, 4, 512, 4, True), (8, 2, 512, 8, True), (8, 2, 512, 16, False), (12, 4, 768, 6, False), (8, 8, 448, 2, False)],
)
def test_matrices_are_shared_only_where_heads_and_groups_come_out_even(
    tmp_path: Path, heads: int, pairs: int, inner: int, parts: int, even: bool
) -> None:
    text = {"num_attention_heads": heads, "num_key_value_heads": pairs, "intermediate_size": inner,
            "max_position_embeddings": 64}  # fmt: skip
    about = described("compressed-tensors", codes(4, 64))
    folder = exported(tmp_path / "made", about, "compressed-tensors", text_config=text, vision_config=None)
    if even:
        assert options(command(folder, Wanted(parts=parts)))["--tensor-parallel-size"] == str(parts)
    else:
        with pytest.raises(BadInput, match="--tensor-parallel-size: got"):
            command(folder, Wanted(parts=parts))


def test_the_command_line_writes_a_new_file_and_says_the_list(tmp_path: Path) -> None:
    folder, out = exported(tmp_path / "made"), tmp_path / "run.sh"
    done = CliRunner().invoke(deploy, ["vllm", str(folder), "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout.splitlines()[-1])
    shown = [word for word in shlex.split(out.read_text(), comments=True) if word != "\n"]
    assert shown[shown.index("vllm") : -1] == said["arguments"]
    again = CliRunner().invoke(deploy, ["vllm", str(folder), "--out", str(out)])
    assert isinstance(again.exception, Refused)
