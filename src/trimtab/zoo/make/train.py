"""Training of ``builtin:easyvqa-llava``: the recipe ``make-easyvqa-llava``. Resumable; a few hours on two CPU cores.

Stage 1 teaches the vision tower alone to name, at every patch, the shape and colour that covers it (or the ground):
dense labels, made from the train split's own pictures and answers, bring the shapes within minutes, where questions
alone take hours. Stage 2 trains the whole LLaVA on packed questions about single pictures and 3 x 3 collages. Two small
losses stay beside it: the patch labels, and half-way up the decoder, at each colour or shape word of a question, how
many shapes of the picture are so; without the latter "is there a red shape?" stays at chance for hundreds of steps.
Matrices inside the layers are stepped by Muon (Jordan et al. 2024), the rest by AdamW; an exponential average of the
weights is what is saved. Every step's pictures and questions follow from (seed, step) alone, so a resumed run sees what
an unbroken one would have.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from trimtab.core.firstcalls import settle_first_calls
from trimtab.core.tensorfile import save_tensors
from trimtab.data import easyvqa, grid
from trimtab.zoo.make import batch, build, pictures

SIDE = build.CANVAS // build.PATCH
# Training's share of each kind of question on collages: what needs looking everywhere is asked more than in the set.
TAUGHT = {
    "color_at": 8, "shape_at": 12, "shapes_in": 12, "colors_in": 8, "exists": 25, "count_color": 20, "count_shape": 14,
    "describe_row": 6, "list_colors": 6, "list_shapes": 14, "describe": 6,
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Knobs of the training run. An optimizer step sees ``pictures`` pictures, half of them collages."""

    seed: int = 0
    vision_steps: int = 500
    steps: int = 1000
    decay: float = 0.2  # the last part of the steps over which the rate falls linearly to a twentieth
    pictures: int = 48
    questions_single: int = 10
    questions_grid: int = 12
    muon_rate: float = 3e-3
    adam_rate: float = 1e-3
    patch_weight: float = 0.3
    count_weight: float = 0.3
    average: float = 0.998
    held_out: int = 178  # train pictures kept for validation
    every: int = 200  # steps between saved states and validation


def rate(plan: Plan, stage: int, step: int) -> float:
    """Multiplier of the peak rate: 100 steps of warm-up, flat, then linear to 0.05 over the stage's last part."""
    total = plan.vision_steps if stage == 1 else plan.steps
    left = (total - step) / max(1, int(total * plan.decay))
    return min(1.0, (step + 1) / 100) * max(0.05, min(1.0, left))


def held_out(plan: Plan) -> list[int]:
    """The train pictures that validation alone sees."""
    return random.Random(f"held-out/{plan.seed}").sample(sorted(easyvqa.facts("train")), plan.held_out)


class Trainer:
    """The state of a training run in a folder; ``run`` goes on from wherever it stands."""

    def __init__(self, plan: Plan, out: Path) -> None:
        self.plan, self.out = plan, out
        self.processor: LlavaProcessor = build.processor()
        self.net: LlavaForConditionalGeneration = build.model(self.processor.tokenizer, plan.seed)
        self.probe = nn.Sequential(nn.LayerNorm(192), nn.Linear(192, pictures.CLASSES))
        self.counter = nn.Sequential(nn.LayerNorm(192), nn.Linear(192, 10))
        self.bank = pictures.Bank(frozenset(held_out(plan)))
        self.stage, self.step = 1, 0
        self._optimizers()
        self.mean = {name: value.detach().clone() for name, value in self.net.named_parameters()}

    def _optimizers(self) -> None:
        named = [
            *self.net.named_parameters(),
            *self.probe.named_parameters(prefix="probe"),
            *self.counter.named_parameters(prefix="counter"),
        ]
        self.inner = {name: value for name, value in named if value.ndim == 2 and ".layers." in name}
        self.outer = {name: value for name, value in named if name not in self.inner}
        self.muon = torch.optim.Muon(list(self.inner.values()), weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
        self.adam = torch.optim.AdamW(list(self.outer.values()), betas=(0.9, 0.98), weight_decay=0.0)

    def _sheets(
        self, rng: random.Random, side: int, count: int
    ) -> tuple[list[Image.Image], Tensor, list[tuple[easyvqa.Facts, ...]]]:
        drawn = [self.bank.sheet(rng, side) for _ in range(count)]
        labels = torch.from_numpy(np.stack([pictures.patch_labels(one[1], SIDE) for one in drawn]))
        return [one[0] for one in drawn], labels.flatten(1), [one[2] for one in drawn]

    def _patch_loss(self, features: Tensor, labels: Tensor) -> Tensor:
        weight = torch.ones(pictures.CLASSES)
        weight[0] = 0.2
        logits = self.probe(features.float()).flatten(0, 1)
        return F.cross_entropy(logits, labels.flatten(), weight=weight, ignore_index=pictures.IGNORE)

    def _losses(self, rng: random.Random) -> dict[str, Tensor]:
        """One loss per kind of picture; each is backed through at once, so that memory holds one."""
        losses: dict[str, Tensor] = {}
        half = self.plan.pictures // 2
        for name, side in (("single", 1), ("grid", 3)):
            images, labels, seen = self._sheets(rng, side, half)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                if self.stage == 1:
                    values = batch.pixels(images, build.CANVAS)
                    features = self.net.model.vision_tower(pixel_values=values).last_hidden_state[:, 1:]
                    loss = self._patch_loss(features, labels)
                    losses[f"{name}/patch"] = loss
                else:
                    asked = [
                        grid.pose(one, self.plan.questions_grid, rng, TAUGHT)
                        if side > 1
                        else batch.ask_single(one[0], self.plan.questions_single, rng)
                        for one in seen
                    ]
                    packed = batch.pack(images, asked, self.processor.tokenizer, build.CANVAS, SIDE**2, seen)
                    features, logits, target, middle = batch.forward(self.net, packed)
                    words, patch = F.cross_entropy(logits.float(), target), self._patch_loss(features, labels)
                    found = self.counter(middle.float()).flatten(0, 1)
                    count = F.cross_entropy(found, packed.counts.flatten(), ignore_index=-100)
                    loss = words + self.plan.patch_weight * patch + self.plan.count_weight * count
                    losses |= {f"{name}/words": words, f"{name}/patch": patch, f"{name}/count": count}
            torch.autograd.backward(loss / 2)
        return losses

    def advance(self) -> dict[str, float]:
        """One optimizer step."""
        rng = random.Random(f"{self.plan.seed}/{self.stage}/{self.step}")
        losses = self._losses(rng)
        values = [p for group in (self.inner, self.outer) for p in group.values() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(values, 1.0)
        scale = rate(self.plan, self.stage, self.step)
        for optimizer, peak in ((self.muon, self.plan.muon_rate), (self.adam, self.plan.adam_rate)):
            for group in optimizer.param_groups:
                group["lr"] = peak * scale
            optimizer.step()
            optimizer.zero_grad()
        keep = min(self.plan.average, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for name, value in self.net.named_parameters():
                self.mean[name].lerp_(value, 1 - keep)
        self.step += 1
        return {name: value.item() for name, value in losses.items()} | {"norm": float(norm)}

    @torch.no_grad()
    def validate(self, singles: int = 178, sheets: int = 96) -> dict[str, float]:
        """Accuracy of the averaged weights on held-out train pictures, by kind of question."""
        kept = {name: value.clone() for name, value in self.net.named_parameters()}
        self._put(self.mean)
        found: list[tuple[str, bool]] = []
        rng, chosen, known = random.Random(1), held_out(self.plan), easyvqa.facts("train")
        jobs: list[tuple[Image.Image, list[batch.Asked]]] = []
        for number in chosen[:singles]:
            asked = [("single", q, a) for q, a, n in easyvqa.questions("train") if n == number]
            jobs.append((Image.open(easyvqa.picture("train", number)), asked))
        for _ in range(sheets):
            numbers = tuple(rng.sample(chosen, 9))
            sheet = grid.Collage("train", numbers, tuple(known[n] for n in numbers))
            jobs.append((sheet.open(), [(f"grid/{k}", q, a) for k, q, a in grid.pose(sheet.seen, 12, rng)]))
        for at in range(0, len(jobs), 32):
            part = jobs[at : at + 32]
            packed = batch.pack(
                [j[0] for j in part], [j[1] for j in part], self.processor.tokenizer, build.CANVAS, SIDE**2
            )
            with torch.autocast("cpu", dtype=torch.bfloat16):
                found += batch.score(self.net, packed)
        self._put(kept)
        names = sorted({kind for kind, _ in found})
        table = {name: float(np.mean([ok for kind, ok in found if kind == name])) for name in names}
        return table | {"grid": float(np.mean([ok for kind, ok in found if kind.startswith("grid")]))}

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, value in self.net.named_parameters():
            value.copy_(values[name])

    def save(self) -> None:
        """The whole state as one safetensors file, replaced in one rename."""
        tensors = {f"net.{n}": p.detach() for n, p in self.net.named_parameters()}
        tensors |= {f"probe.{n}": p.detach() for n, p in self.probe.named_parameters()}
        tensors |= {f"counter.{n}": p.detach() for n, p in self.counter.named_parameters()}
        tensors |= {f"mean.{n}": p for n, p in self.mean.items()}
        for title, optimizer, owned in (("muon", self.muon, self.inner), ("adam", self.adam, self.outer)):
            for name, value in owned.items():
                for key, state in optimizer.state.get(value, {}).items():
                    tensors[f"{title}.{key}.{name}"] = torch.as_tensor(state)
        temporary = self.out / "state.safetensors.part"
        where = {"stage": str(self.stage), "step": str(self.step), "plan": json.dumps(asdict(self.plan))}
        save_tensors(temporary, {name: value.contiguous() for name, value in tensors.items()}, where)
        os.replace(temporary, self.out / "state.safetensors")

    @torch.no_grad()
    def restore(self) -> None:
        """Go on from the saved state, if there is one."""
        path = self.out / "state.safetensors"
        if not path.exists():
            return
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            where = file.metadata()
        tensors = load_file(path)
        self.stage, self.step = int(where["stage"]), int(where["step"])
        for name, value in self.net.named_parameters():
            value.copy_(tensors[f"net.{name}"])
            self.mean[name] = tensors[f"mean.{name}"]
        for name, value in self.probe.named_parameters():
            value.copy_(tensors[f"probe.{name}"])
        for name, value in self.counter.named_parameters():
            if f"counter.{name}" in tensors:
                value.copy_(tensors[f"counter.{name}"])
        for title, optimizer, owned in (("muon", self.muon, self.inner), ("adam", self.adam, self.outer)):
            for name, value in owned.items():
                keys = [key for key in tensors if key.startswith(f"{title}.") and key.endswith(f".{name}")]
                state = {
                    key.split(".")[1]: tensors[key] for key in keys if key == f"{title}.{key.split('.')[1]}.{name}"
                }
                if state:
                    optimizer.state[value] = state

    def log(self, row: dict[str, object]) -> None:
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": self.stage, "step": self.step, **row}) + "\n")

    def run(self) -> None:
        """Train to the end of the plan."""
        self.out.mkdir(parents=True, exist_ok=True)
        self.restore()
        begun, losses = time.time(), []
        while self.stage < 3:
            total = self.plan.vision_steps if self.stage == 1 else self.plan.steps
            if self.step >= total:
                self.stage, self.step = self.stage + 1, 0
                continue
            losses.append(self.advance())
            if self.step % 20 == 0:
                means = {key: round(math.fsum(row[key] for row in losses) / len(losses), 4) for key in losses[0]}
                self.log({"seconds": round(time.time() - begun), **means})
                losses = []
            if self.step % self.plan.every == 0 or self.step == total:
                self.save()
                if self.stage == 2:
                    self.log({"accuracy": {key: round(value, 4) for key, value in self.validate().items()}})


def main() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    for name, value in asdict(Plan()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    given = vars(parser.parse_args())
    out, threads = given.pop("out"), given.pop("threads")
    torch.set_num_threads(threads)
    settle_first_calls()
    Trainer(Plan(**given), out).run()


if __name__ == "__main__":
    main()
