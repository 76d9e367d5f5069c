"""``make mutants``: break each method and each protocol on purpose; a test must fail every time.

A mutant is one replacement in one file of a temporary copy of src/ (never of the working tree). The tests named beside
it run with PYTHONPATH at the copy. It is an error when the text to replace is not there exactly once, when no test
fails, or when the tests fail without a mutant. tests/mutants.tsv keeps which test caught what.

    python tests/mutants.py [--only TEXT ...]     only mutants whose file or description has one of these
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from trimtab.core.native import amx

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "tests" / "mutants.tsv"
AT_ONCE = 2

SERVED = "tests/serve/test_serve"
SAID = f"{SERVED}_words.py"
PICTURES = f"{SERVED}_pictures.py::test"
TOGETHER = f"{SERVED}_law.py::test_alone_and_together_it_says_what_generate_says"
FRONT = "tests/run/test_search_front.py"
GOALS = "tests/run/test_search_goals.py"
SPACE = "tests/run/test_search_space.py"
STUDY = "tests/run/test_search_study.py"
SEARCH = "tests/run/test_search.py"
BENCH = "tests/run/test_search_bench.py"
KEEP = "tests/laws/test_keep.py"
DIVPRUNE = "tests/tokens/test_divprune.py"
FASTV = "tests/tokens/test_fastv.py"
GPTQ = "tests/quantize/test_gptq.py"
NATIVE = "tests/quantize/test_native.py"
PRODUCTS = "tests/laws/test_products.py"
BY_CODES = "tests/runtime/test_compiled.py"
PLAN = "tests/runtime/test_plan.py"
VLLM = "tests/serve/test_deploy_vllm.py"
RAY = "tests/serve/test_deploy_ray.py"
DESCRIBED = "tests/serve/test_openapi.py"
PLACE = "tests/runtime/test_place.py"
MEMORY = "tests/runtime/test_remembered.py"
THREADS = "tests/runtime/test_threads.py"
KEEPS_ALL = f"{PLAN}::test_a_policy_that_keeps_all_costs_nothing"
ENGINES = "tests/export/test_engines.py"
OTHERWISE = f"{ENGINES}::test_an_engine_that_answers_otherwise_is_not_taken"
REMEMBERED = f"{ENGINES}::test_it_is_remembered_and_answers_by_it"
NORM = "tests/laws/test_norm.py"
GATED = "tests/laws/test_gated.py"
LANES = "tests/run/test_lanes.py"
PATTERN = "tests/prune/test_pattern.py"
PLAINLY = "tests/anatomy/test_traps.py::test_no_mask_only_where_it_would_say_nothing"
WALK = "tests/run/test_walk.py"
AWQ = "tests/quantize/test_awq.py"
MBQ = "tests/quantize/test_mbq.py"
MODELS = "tests/quantize/test_scaled_models.py"
NEARER = "test_with_outlier_channels_awqs_answers_are_nearer_than_those_of_rounding_to_nearest"
WEIGHED_ERROR = "test_weighed_by_sensitivity_mbqs_error_is_at_most_awqs_on_every_linear"
UNEVEN = "tests/export/test_uneven.py"
SENSITIVITY = "tests/run/test_sensitivity.py"
WEIGHED = "tests/run/test_weigh.py"
NF4 = "tests/quantize/test_nf4.py"
FP4 = "tests/quantize/test_fp4.py"
MRGPTQ = "tests/quantize/test_mr_gptq.py"
ROTATION = "tests/quantize/test_rotation.py"
FINEQUANT = "tests/quantize/test_finequant.py"
QUANTEASE = "tests/quantize/test_quantease.py"
SWEEP = f"{QUANTEASE}::test_a_sweep_is_the_catalogues_equation_from_any_state"
THRESHOLD = f"{QUANTEASE}::test_thresholding_is_the_gradient_step_that_a_slow_reference_makes"
BAD = "tests/quantize/test_bad_input.py"
SPARSEGPT = "tests/prune/test_sparsegpt.py"
EORA = "tests/factorize/test_eora.py"
FIT = "tests/laws/test_fit.py"
WEIGHT = "tests/laws/test_weight.py"
STAT = "tests/laws/test_stat.py"
ANATOMY = "tests/laws/test_anatomy.py"
LOOP = f"{ANATOMY}::test_the_loop_answers_as_the_library_does"
MASKS = "tests/anatomy/test_traps.py::test_causal_masks_element_by_element"
BLOCKS = "tests/anatomy/test_traps.py::test_masks_with_blocks_element_by_element"
FILLED = "tests/anatomy/test_traps.py::test_where_the_states_of_padding_are_read_it_sees_what_is_there_and_not_itself"
CAPPED = "tests/anatomy/test_traps.py::test_capped_attention_element_by_element"
NEEDED = "tests/anatomy/test_traps.py::test_no_mask_only_where_it_would_say_nothing"
TRIMMED = "tests/anatomy/test_trimmed.py"
KERNELS = "tests/runtime/test_lower.py"
ADAPT = "tests/laws/test_adapter.py"
LORA = "tests/adapt/test_lora.py"
PEFT = "tests/adapt/test_peft.py"
FIRST = "tests/load/test_firstcalls.py"
WALK = "tests/run/test_walk.py"
TIMING = "tests/run/test_timing.py"
TUNE = "tests/adapt/test_tune.py"
HELD = "tests/runtime/test_held.py"
TOWER_CALLS = "tests/runtime/test_tower_calls.py"
PERTURB = "tests/laws/test_perturb.py"
SHOWN = "tests/run/test_robustness.py"
COMPOSE = "tests/runtime/test_compose.py"
FOLLOW = "tests/run/test_follow.py"
TOME = "tests/tokens/test_tome.py"
SNAPKV = "tests/cache/test_snapkv.py"
SINKS = "tests/cache/test_sinks.py"
KIVI = "tests/cache/test_kivi.py"
SLOT = "tests/cache/test_slot.py"
ALONE = "tests/laws/test_kv_cache.py::test_a_row_in_a_batch_says_what_it_says_alone"
W8A8 = "tests/quantize/test_w8a8.py"
SMOOTH = "tests/quantize/test_smoothquant.py"
MIXED = "tests/quantize/test_mixed.py"
ALLOCATE = "tests/run/test_allocate.py"
INT8 = "tests/runtime/test_int8.py"
ROUNDED = "tests/load/test_rounded_inputs.py"
STATIC = "tests/quantize/test_w8a8_static.py"
INPUTS = "tests/export/test_int8_inputs.py"
SILENCE = "tests/export/test_silence.py::test_an_openvino_folder_is_written_and_checked_in_silence"
CT = "tests/export/test_compressed_tensors.py::test_the_engines_own_reader_finds_our_numbers"
TOWERS = "tests/export/test_towers.py"
LAYOUTS = "tests/export/test_gptq_awq.py"
DELIVER = "tests/export/test_deliver.py"
GGUF = "tests/export/test_gguf_files.py"
GGUF_BACK = f"{GGUF}::test_there_and_back_the_logits_are_the_same_bits"
GGUF_READ = f"{GGUF}::test_what_leaves_is_what_the_other_reader_runs[llava]"
GGUF_BLOCKS = "tests/export/test_gguf_blocks.py"
GGUF_WORDS = "tests/export/test_gguf_words.py"
KQUANTS = "tests/export/test_gguf_kquants.py"
KFILES = "tests/export/test_gguf_kfiles.py"
K_READ = f"{KQUANTS}::test_the_package_reads_what_we_say_we_wrote"
K_ASKED = f"{KFILES}::test_the_engine_answers_exactly_as_what_is_written_and_nearly_as_the_artifact[language]"
BY_HEAD = "tests/anatomy/test_traps.py::test_masks_by_key_head_element_by_element_and_for_their_query_heads"
WINDOWS = "tests/export/test_drawings.py::test_a_decoder_in_two_parts_is_the_library_s_in_one[gemma3]"
ONNX = "tests/export/test_onnx.py::test_every_grid_arrives_as_it_is_and_a_changed_code_does_not_pass"
CODES = "tests/export/test_onnx.py::test_codes_in_containers_are_the_same_numbers"
STREAM = "tests/load/test_stream.py"
CHANGED = f"{STREAM}::test_a_file_that_is_no_longer_the_same_is_named"
TIED_TWICE = f"{STREAM}::test_a_tied_pair_that_is_stored_twice_is_what_the_library_makes_of_it"
GEMMA_STREAMS = f"{STREAM}::test_every_family_answers_and_is_written_the_same[gemma3]"
PHI_STREAMS = f"{STREAM}::test_trimming_gives_the_same_reports_and_codes[phi3-rtn]"
TENSORFILE = "tests/load/test_tensorfile.py"
LAWS = "tests/laws/test_weight.py"
STREAMED = "tests/run/test_streamed.py"
EMBEDDING = "tests/evaluate/test_embedding.py"
BOOTSTRAP = "tests/evaluate/test_bootstrap.py"
SENTENCES = "tests/data/test_sentences.py"
FIGURES = "tests/measure"
TRACE, CEILINGS = "tests/measure/test_trace.py", "tests/measure/test_ceilings.py"
FORETOLD, PROSPECT = "tests/run/test_foretold.py", "tests/run/test_prospect.py"
CHARTS = "tests/report/test_charts.py"
PREDICTED = "tests/report/test_predicted.py"
COMPARE = "tests/report/test_compare.py"
PARETO = "tests/report/test_pareto.py"
TWINS = "tests/report/test_twins.py"
IR = "tests/export/test_openvino.py::test_weights_stay_compressed_and_a_changed_code_does_not_pass"


@dataclass(frozen=True)
class Mutant:
    """In ``file`` of src/trimtab, ``old`` (there exactly once) becomes ``new``; ``tests`` must notice."""

    file: str
    what: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    # core
    Mutant("core/firstcalls.py", "settle no function", "for name in FUNCTIONS:", "for name in ():", (FIRST,)),
    Mutant("core/firstcalls.py", "settle one precision only", "(torch.float32, torch.float64)", "(torch.float32,)",
           (FIRST,)),
    Mutant("load/artifact.py", "an artifact is read unsettled", "    settle_first_calls()\n", "", (FIRST,)),
    # tokens
    Mutant("tokens/divprune.py", "flip the sign of the cosine", "torch.mm(unit, unit.T", "torch.mm(-unit, unit.T",
           (DIVPRUNE,)),
    Mutant("tokens/divprune.py", "do not normalize", "F.normalize(sight.stream.x[image].detach().float(), dim=-1)",
           "sight.stream.x[image].float()", (DIVPRUNE,)),
    Mutant("tokens/divprune.py", "farthest from any in place of all chosen", "np.maximum(nearest",
           "np.minimum(nearest",
           (DIVPRUNE,)),
    Mutant("tokens/divprune.py", "start from the least isolated", "torch.inf).argmin(1)",
           "-torch.inf).argmax(1)", (DIVPRUNE,)),
    Mutant("tokens/divprune.py", "start from the first token", "start = like.amax", "start = 0 * like.amax",
           (DIVPRUNE,)),
    Mutant("tokens/divprune.py", "count the token itself as its neighbour", "itself.fill_(-torch.inf)",
           "itself.fill_(1)", (DIVPRUNE,)),
    Mutant("tokens/divprune.py", "choose a token twice", "itself.fill_(torch.inf)", "itself.fill_(1)", (DIVPRUNE,)),
    Mutant("tokens/divprune.py", "forget that a row has fewer tokens", "torch.where(present, -torch.inf, torch.inf)",
           "torch.full(present.shape, -torch.inf)", (DIVPRUNE,)),
    Mutant("tokens/divprune.py", "one too many", "[:, None] < count",
           "[:, None] <= count",
           (KEEP,)),
    Mutant("tokens/divprune.py", "act after the first layer", "at=Place(layer=0)", "at=Place(layer=1)", (DIVPRUNE,)),
    Mutant("tokens/fastv.py", "keep the least attended", "return total / (", "return -total / (", (FASTV,)),
    Mutant("tokens/fastv.py", "mean over too many heads", "q.shape[1] * asks.sum", "k.shape[1] * asks.sum", (FASTV,)),
    Mutant("tokens/fastv.py", "last of the padded row in place of the last valid",
           "asks.shape[1] - 1 - asks.flip(1).int().argmax(1)", "asks.sum(1) * 0 + asks.shape[1] - 1", (FASTV,)),
    Mutant("tokens/fastv.py", "let padding ask", "(given * asks[:, None, :, None])", "given", (FASTV,)),
    Mutant("tokens/fastv.py", "act one layer late", "Place(layer=self.layer)", "Place(layer=self.layer + 1)", (FASTV,)),
    Mutant("tokens/flops.py", "forget attention's square", "2 * n**2 * width", "2 * n * width", (FASTV,)),
    Mutant("tokens/flops.py", "one layer too few before", "return layer * before + (layers - layer) * after",
           "return (layer - 1) * before + (layers - layer + 1) * after", (FASTV,)),
    Mutant("tokens/random.py", "choose by the row's place in the batch", "manual_seed(seed)", "manual_seed(seed + row)",
           (KEEP,)),
    Mutant("tokens/tome.py", "propose to the least alike", "like.max(1)", "like.min(1)", (TOME,)),
    Mutant("tokens/tome.py", "do not normalize", "F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T", "a @ b.T",
           (TOME,)),
    Mutant("tokens/tome.py", "carry out the weakest", "argsort(descending=True, stable=True)",
           "argsort(descending=False, stable=True)", (TOME,)),
    Mutant("tokens/tome.py", "plain means between rounds", "index_add_(0, goes, feature * size[:, None])",
           "index_add_(0, goes, feature)", (TOME,)),
    Mutant("tokens/tome.py", "leave behind what merged before", "into = goes[into]",
           "into = torch.where(goes == torch.arange(len(goes)), into, goes)", (TOME,)),
    Mutant("tokens/tome.py", "compare hidden states in every layer", "if layer > 0:", "if layer > 9:", (TOME,)),
    # cache
    Mutant("cache/snapkv.py", "no pooling", "F.avg_pool1d(earlier, kernel, stride=1, padding=kernel // 2)", "earlier",
           (SNAPKV,)),
    Mutant("cache/snapkv.py", "one query head for its whole group", "given.sum((1, 2))", "given[:, 0].sum(1)",
           (SNAPKV,)),
    Mutant("cache/snapkv.py", "observe from the beginning", "[:, -window:]", "[:, :window]", (SNAPKV,)),
    Mutant("cache/snapkv.py", "let the window go", "pooled.masked_fill(recent[:, None], torch.inf)", "pooled",
           (SNAPKV,)),
    Mutant("cache/snapkv.py", "keep the least attended", "torch.stack(received, 1)", "-torch.stack(received, 1)",
           (SNAPKV,)),
    Mutant("cache/sinks.py", "sinks in the middle", "number <= sinks", "number > sinks", (SINKS,)),
    Mutant("cache/sinks.py", "a window one too narrow", "number[..., -1:] - number < window",
           "number[..., -1:] - number < window - 1", (SINKS,)),
    Mutant("cache/sinks.py", "one entry too many", "self.sinks + self.window, at", "self.sinks + self.window + 1, at",
           (SINKS,)),
    Mutant("cache/kivi.py", "code the newest too", "self.group_size, self.residual, once", "self.group_size, 0, once",
           (KIVI,)),
    Mutant("cache/kivi.py", "promise one group more", "max(0, n - self.residual) // self.group_size *",
           "(max(0, n - self.residual) // self.group_size + 1) *", (KIVI,)),
    Mutant("cache/codes.py", "forget the least value", " + self.low.float()[..., None])", ")", (KIVI,)),
    Mutant("cache/codes.py", "one step too many", "low.float()) / (2**bits - 1)).to", "low.float()) / 2**bits).to",
           (KIVI,)),
    Mutant("cache/codes.py", "round down", "steps.round_()", "steps.floor_()", (KIVI,)),
    Mutant("cache/codes.py", "one grid for all channels of a value",
           "span = group_size if v.shape[3] % group_size == 0 else v.shape[3]", "span = v.shape[3]", (KIVI,)),
    Mutant("cache/codes.py", "count codes only", "self.codes.nbytes + self.scale.nbytes + self.low.nbytes",
           "self.codes.nbytes", (KIVI,)),
    # quantize
    Mutant("quantize/grid.py", "flip the sign of the zero", "(-low / scale).round()", "(low / scale).round()", (FIT,)),
    Mutant("quantize/grid.py", "one step too few", "top = 2**bits - 1", "top = 2**bits - 2", (FIT,)),
    Mutant("quantize/grid.py", "ignore the weight of an input", "(weight @ (tried - w).square_())",
           "(torch.ones_like(weight) @ (tried - w).square_())", (FIT,)),
    Mutant("quantize/grid.py", "drop the scale when coding", "((w / scale).round_() + zero)", "(w.round() + zero)",
           (FIT,)),
    Mutant("quantize/rtn.py", "take the grid of the whole row", "group = span(self.group_size, w.shape[1])",
           "group = w.shape[1]", (FIT,)),
    Mutant("quantize/gptq.py", "push errors the wrong way within a block", "u[a:i, i], alpha=-1)",
           "u[a:i, i], alpha=1)",
           (FIT,)),
    Mutant("quantize/gptq.py", "push no errors past a block", "w[b:].addmm_(u[a:b, b:].T, errors, alpha=-1)",
           "w[b:].addmm_(u[a:b, b:].T, errors, alpha=0)", (FIT,)),
    Mutant("quantize/gptq.py", "forget the pivot", "decode(code, scale, zero, dtype)) / u[i, i]",
           "decode(code, scale, zero, dtype))", (FIT,)),
    Mutant("quantize/scaled.py", "scale down what matters", "1 / scales(given.size, i / POINTS)",
           "scales(given.size, i / POINTS)", (AWQ,)),
    Mutant("quantize/scaled.py", "forget to scale back", ".mul_(back[:, None])", "", (AWQ,)),
    Mutant("quantize/scaled.py", "take the worst exponent", ".sum(0).argmin())", ".sum(0).argmax())", (AWQ,)),
    Mutant("quantize/scaled.py", "clip where more is lost", "losses[-1] < losses[0]", "losses[-1] > losses[0]",
           (f"{FIT}::test_a_slow_reference_gives_the_same_codes",)),
    Mutant("quantize/scaled.py", "never let rounding to nearest stay", "gained.sum() <= 0", "gained.sum() <= -1e30",
           (AWQ,)),
    Mutant("quantize/scaled.py", "clip as if nothing were scaled", "given.counts * back**2", "given.counts",
           (f"{FIT}::test_a_slow_reference_gives_the_same_codes",)),
    Mutant("quantize/awq.py", "the root of the mean square", "Input(site.gram.mean_abs(),",
           "Input(site.gram.read().diagonal().sqrt(),", (AWQ,)),
    Mutant("quantize/mbq.py", "squares in place of sizes", "(x @ d).abs_()", "(x @ d).square_()",
           (f"{MBQ}::test_the_loss_is_what_an_error_costs_at_each_token",)),
    Mutant("quantize/mbq.py", "image tokens count as text does", "share * self.weights(site)[kinds]", "share * 1.0",
           (f"{MBQ}::test_at_one_the_scales_are_those_of_the_unweighted_search",)),
    Mutant("quantize/mbq.py", "rows that stayed count for themselves alone", "seen / (count * total)", "1 / total",
           (f"{MBQ}::test_more_rows_than_are_kept_count_for_all",)),
    Mutant("quantize/mbq.py", "r is for text", "== TEXT, 1.0, self.ratio)", "== TEXT, self.ratio, 1.0)",
           (f"{MBQ}::test_at_one_the_scales_are_those_of_the_unweighted_search",)),
    Mutant("quantize/scaled.py", "no exponent but the first", "return int(torch.stack(each(losses, parts))",
           "return 0 * int(torch.stack(each(losses, parts))", (f"{MODELS}::{NEARER}",)),
    Mutant("quantize/mbq.py", "sensitivity is not asked", "return site.sensitivity.weights(site.name)",
           "return torch.ones(len(KINDS))", (f"{MODELS}::{WEIGHED_ERROR}",)),
    Mutant("export/forms.py", "no reason for what AWQ leaves", "if kinds == {Quantized, Diagonal}:",
           "if kinds == {Quantized}:", (UNEVEN,)),
    Mutant("export/gguf/entry.py", "uneven levels behind factors", "isinstance(leaf, Codebook) for leaf in leaves(w)",
           "isinstance(leaf, Codebook) for leaf in (w,)", (UNEVEN,)),
    Mutant("run/settle.py", "knobs are looked at when a layer comes",
           "self.fit.check(*reversed(self.hosts[name].w.shape))", "pass",
           (f"{BAD}::test_groups_that_do_not_divide_a_row_are_refused_by_layer_before_any_work",)),
    Mutant("run/settle.py", "what is made up for is the trimmed matrix",
           "old if read is None else Dense(read(name).detach())", "old", ("tests/load/test_given_back.py",)),
    # kinds of tokens
    Mutant("core/stats.py", "weigh twice", "kept[:room], weight)", "kept, weight**2)", (STAT,)),
    Mutant("core/stats.py", "a mean over all rows alike", "(self._counts().double() * self.seen)",
           "(self.seen.double())", (STAT,)),
    Mutant("core/reservoir.py", "the first rows stay", "stay = keys.argsort", "stay = index.argsort", (STAT,)),
    Mutant("core/reservoir.py", "number rows anew in each call", "first + torch.arange(", "0 * first + torch.arange(",
           (STAT,)),
    Mutant("core/sensitivity.py", "text over image", "sizes[kind] / sizes[TEXT]", "sizes[TEXT] / sizes[kind]",
           (SENSITIVITY,)),
    Mutant("core/sensitivity.py", "the last block where nothing is read", "min(index + 1, len(self.blocks) - 1)",
           "index + 1", (SENSITIVITY,)),
    Mutant("run/sensitivity.py", "means with their signs", "rows.abs().mean(1)", "rows.mean(1)", (SENSITIVITY,)),
    Mutant("run/sensitivity.py", "the gradient of a sum", "torch.autograd.grad(out, x, gradient)",
           "torch.autograd.grad(out.sum(), x)", (SENSITIVITY,)),
    Mutant("run/sensitivity.py", "answers a place late", "labels[:, -answers.shape[1] - 1 : -1]",
           "labels[:, -answers.shape[1] :]", (SENSITIVITY,)),
    Mutant("run/sensitivity.py", "padding among the words", "torch.where(stream.valid, stream.kinds, PADDING)",
           "stream.kinds.clamp(max=1)", (SENSITIVITY,)),
    Mutant("run/weigh.py", "weigh the tower too", "if name.startswith(blocks) else None", "", (WEIGHED,)),
    Mutant("run/weigh.py", "the other kind alone", "== ALONE[how]", "!= ALONE[how]", (WEIGHED,)),
    Mutant("run/verdict.py", "accept an ablation", 'found |= {"ABLATION"} if ablation',
           'found |= {"ABLATION"} if False', ("tests/run/test_verdict.py",)),
    Mutant("quantize/finequant.py", "halve where the range hardly narrows", "if not fine < (1 - alpha) * coarse",
           "if fine < (1 - alpha) * coarse", (FINEQUANT,)),
    Mutant("quantize/finequant.py", "one outlier of a pair is forgotten", "low.unflatten(1, (-1, 2)).amin(2)",
           "low.unflatten(1, (-1, 2)).amax(2)", (FINEQUANT,)),
    Mutant("quantize/finequant.py", "the widest group of a row in place of all", ".square().mean(1).sum())",
           ".square().amax(1).sum())", (FINEQUANT,)),
    Mutant("quantize/finequant.py", "clip the ranges", "clip=False", "clip=True", (FINEQUANT,)),
    Mutant("quantize/finequant.py", "foretell the least in place of the most", "self.group_size, self.bits)[-1]",
           "self.group_size, self.bits)[0]", (f"{FIT}::test_a_plan_foretells_its_bytes",)),
    Mutant("quantize/descent.py", "flip the sign of the step", "grid.values[i] + ahead / h[i, i]",
           "grid.values[i] - ahead / h[i, i]", (SWEEP,)),
    Mutant("quantize/descent.py", "forget the block's own moves", "h[a:i, i], alpha=-1)", "h[a:i, i], alpha=0)",
           (SWEEP,)),
    Mutant("quantize/descent.py", "blocks behind do not see what moved", "d[a:b] -= moves", "d[a:b] -= 0 * moves",
           (f"{QUANTEASE}::test_blocks_and_parts_change_nothing",)),
    Mutant("quantize/descent.py", "forget the curvature", "ahead / h[i, i]", "ahead", (SWEEP,)),
    Mutant("quantize/descent.py", "move where it is farther", "< (before - target).abs()", "> (before - target).abs()",
           (SWEEP,)),
    Mutant("quantize/descent.py", "keep the least entries", "flat.abs().topk(count)", "(-flat.abs()).topk(count)",
           (THRESHOLD,)),
    Mutant("quantize/descent.py", "step uphill", "s + rate * lean", "s - rate * lean", (THRESHOLD,)),
    Mutant("quantize/descent.py", "take a step that rounding spoils", "        return d, few\n",
           "        return after, new\n", (f"{QUANTEASE}::test_a_step_that_rounding_spoils_is_not_taken",)),
    Mutant("quantize/quantease.py", "outliers stretch the grid", "without(w, kept) if kept else w", "w",
           (f"{QUANTEASE}::test_outliers_stretch_no_grid",)),
    Mutant("quantize/quantease.py", "the grid does not know of outliers", "- few.spread(d)", "- 0 * few.spread(d)",
           (f"{QUANTEASE}::test_the_objective_never_grows",)),
    Mutant("quantize/quantease.py", "outliers in the rows of the first part", "number * PART * width",
           "0 * number * width", (f"{QUANTEASE}::test_outliers_of_every_part_stand_in_its_rows",)),
    Mutant("quantize/quantease.py", "start from rounding in any case", 'if self.start == "gptq" else',
           "if not self.start else", (f"{QUANTEASE}::test_inputs_that_are_always_zero_keep_the_codes_of_the_start",)),
    Mutant("quantize/scaled.py", "scale away what calibration never used", ".sqrt(), 1.0)", ".sqrt(), 1e-4)",
           (f"{BAD}::test_channels_of_zeros_stay_zeros",)),
    # core
    Mutant("quantize/nf4.py", "one scale for the whole row", "span(self.group_size, w.shape[1])", "w.shape[1]", (FIT,)),
    Mutant("quantize/levels.py", "ties always up", "(x / apart).round_()", "(x / apart + 0.5).floor_()", (FP4,)),
    Mutant("quantize/levels.py", "forget the sign", " + 8 * value.signbit()).to(torch.uint8)", ").to(torch.uint8)",
           (FP4,)),
    Mutant("quantize/levels.py", "leave the mean in", "left = scale.flatten() - mean", "left = scale.flatten()",
           (NF4,)),
    Mutant("quantize/levels.py", "the next octave for a scale", "(127 - 1 - 2)", "(127 - 1 - 1)", (FP4,)),
    Mutant("quantize/levels.py", "a scale as if the matrix had none", "e4m3(top / LARGEST / coarse)",
           "e4m3(top / LARGEST)", (FP4,)),
    Mutant("quantize/levels.py", "search for the scale of most error", "torch.where(lost < best, tried, found)",
           "torch.where(lost > best, tried, found)", (FIT,)),
    Mutant("quantize/levels.py", "see what is not served", "(value * scale).to(dtype).float()", "value * scale",
           (FP4,)),
    Mutant("quantize/rotation.py", "leave it rotated", "Chain([w, Blocks(w.shape[1], rotate)]) if rotate else w", "w",
           (FP4,)),
    Mutant("quantize/fp4.py", "never search", "FORMATS[self.format], self.clip, w.dtype",
           "FORMATS[self.format], False, w.dtype", (FP4,)),
    Mutant("quantize/mr_gptq.py", "push errors the wrong way", "u[a:i, i], alpha=-1)", "u[a:i, i], alpha=1)", (FIT,)),
    Mutant("quantize/mr_gptq.py", "push no errors past a block", "w[b:].addmm_(u[a:b, b:].T, errors, alpha=-1)", "pass",
           (MRGPTQ,)),
    Mutant("quantize/mr_gptq.py", "forget the pivot", "scale[i], dtype)) / u[i, i]", "scale[i], dtype))", (FIT,)),
    Mutant("core/blocks.py", "statistics of inputs that are not rotated",
           "made = rotated(rotated(h, size).T, size)", "made = h.clone()", (FIT,)),
    Mutant("quantize/gptq.py", "round what is not rotated", "mixed(rows(w, index).detach(), self.rotate)",
           "rows(w, index).detach()", (FIT,)),
    Mutant("quantize/rtn.py", "round what is not rotated", "mixed(rows, self.rotate)", "rows", (FIT,)),
    Mutant("core/hessian.py", "one root for every rotation", 'f"root {damp} {group} {rotate}"',
           'f"root {damp} {group}"', (ROTATION,)),
    Mutant("quantize/mr_gptq.py", "the least input first", "argsort(descending=True", "argsort(descending=False",
           (MRGPTQ,)),
    Mutant("quantize/mr_gptq.py", "one root for every rotation", 'f"mr_gptq {rotate} {damp}"', 'f"mr_gptq {damp}"',
           (MRGPTQ,)),
    Mutant("quantize/mr_gptq.py", "leave columns in their order", "codes[back].T", "codes.T", (FIT,)),
    Mutant("quantize/mr_gptq.py", "scales in the order of before", "scale[:, order].T", "scale.T", (FIT,)),
    Mutant("core/codebook.py", "drop the scale", "values * scale[..., None]", "values", (WEIGHT,)),
    Mutant("core/codebook.py", "swap the halves of a byte", "[level.repeat(16), level.repeat_interleave(16)]",
           "[level.repeat_interleave(16), level.repeat(16)]", (WEIGHT,)),
    Mutant("core/scales.py", "forget the mean", "found if self.mean is None else found + self.mean", "found",
           (WEIGHT,)),
    Mutant("core/scales.py", "the first coarse number for all", "// self.block]", "// self.block * 0]", (WEIGHT,)),
    Mutant("core/blocks.py", "a sign too few", "torch.cat([made, -made], 1)", "torch.cat([made, made], 1)", (WEIGHT,)),
    Mutant("core/blocks.py", "longer by the root of a block", "mixed * size**-0.5", "mixed", (WEIGHT,)),
    Mutant("core/blocks.py", "drop the bias", "return y if bias is None else y + bias", "return y", (WEIGHT,)),
    Mutant("core/weight.py", "carry through the transpose", "wide(x) @ wide(w.dense())", "wide(x) @ wide(w.dense()).T",
           (WEIGHT,)),
    Mutant("core/pack.py", "shift by a byte too few", "(word >> (8 * i)) & 255", "(word >> (7 * i)) & 255", (WEIGHT,)),
    Mutant("core/pack.py", "swap the halves of a byte", "(wide << 4).bitwise_or_(wide)",
           "(wide << 8).bitwise_or_(wide >> 4)", (WEIGHT,)),
    Mutant("core/pack.py", "lose the top bit", "& (2**bits - 1)", "& (2 ** (bits - 1) - 1)", (WEIGHT,)),
    Mutant("core/weight.py", "add the zero", "(grouped - origin)", "(grouped + origin)", (WEIGHT,)),
    Mutant("core/weight.py", "drop the scale", "* scale.float()[..., None]).flatten(-2)", ").flatten(-2)", (WEIGHT,)),
    Mutant("core/weight.py", "an odd zero for the symmetric grid", "2.0 ** (bits - 1) if zero is None",
           "2.0 ** (bits - 1) - 1 if zero is None", (WEIGHT,)),
    Mutant("core/weight.py", "count values in place of bytes", "t.numel() * t.element_size()", "t.numel()", (WEIGHT,)),
    Mutant("core/weight.py", "accept any group", "if group_size < 1 or width % group_size or", "if group_size < 1 or",
           (FIT,)),
    Mutant("core/linear.py", "drop the bias", "(x, self.bias)", "(x)", (ANATOMY,)),
    Mutant("core/linear.py", "flatten patches in another order", ".permute(0, 2, 4, 1, 3, 5)",
           ".permute(0, 2, 4, 3, 1, 5)",
           (ANATOMY,)),
    Mutant("core/linear.py", "forget the factor of an embedding", "return found if self.factor == 1.0 else",
           "return found if True else", (ANATOMY,)),
    Mutant("core/stats.py", "count padding", "counts[PADDING] = 0", "pass", (STAT,)),
    Mutant("core/stats.py", "all kinds count alike", "add_moment(self.total, kept[:room], weight)",
           "add_moment(self.total, kept)", (STAT,)),
    Mutant("core/stats.py", "merge forgets the sum", "self.total += other.total",
           "self.total += 0 * other.total", (STAT,)),
    Mutant("core/stats.py", "merge forgets what was seen", "self.seen += other.seen", "self.seen += 0", (STAT,)),
    Mutant("core/keep.py", "round down", "int(keep * n + 0.5)", "int(keep * n)", (KEEP,)),
    Mutant("core/keep.py", "one too many", "rank < count)", "rank <= count)", (KEEP,)),
    Mutant("core/keep.py", "keep the worst", "descending=True", "descending=False", (KEEP, FASTV)),
    Mutant("core/keep.py", "rank text with the images", "best(scores, sight.stream.kinds == IMAGE,",
           "best(scores, sight.stream.valid,", (KEEP,)),
    Mutant("core/keep.py", "rank what is not there", "scores.masked_fill(~among, -torch.inf)", "scores", (KEEP,)),
    Mutant("core/keep.py", "keep padding", "stream.valid & (picked | ~image)", "picked | ~image", (KEEP,)),
    Mutant("core/keep.py", "drop text", "return stream.valid & (picked | ~image)",
           "return stream.valid & picked", (KEEP,)),
    Mutant("core/keep.py", "renumber positions", "positions=take(self.positions)",
           "positions=self.positions[:, : index.shape[1]]", (KEEP,)),
    Mutant("core/stats.py", "merge forgets the sizes", "self.absolute += other.absolute", "self.absolute += 0",
           (STAT,)),
    Mutant("core/stats.py", "sizes of all kinds alike", "weight * size", "size", (STAT,)),
    Mutant("core/stats.py", "keep what was derived from fewer rows", "self.derived.clear()\n        self.whole",
           "self.whole", (STAT,)),
    Mutant("core/stats.py", "mirror once for all", "self.whole = False\n        room", "room", (STAT,)),
    Mutant("core/native.py", "sizes with their sign", "size = x.abs().float()", "size = x.float()", (PRODUCTS,)),
    Mutant("core/products.py", "half of a symmetric sum", "total[:start, start:stop] = total[start:stop, :start].T",
           "pass", (STAT,)),
    Mutant("native/sizes.cpp", "signs are kept", "__builtin_fabsf(wide(x[i]))", "wide(x[i])", (PRODUCTS,)),
    Mutant("native/sizes.cpp", "squares are sums", "square[i] += size * size", "square[i] += size", (PRODUCTS,)),
    Mutant("core/stats.py", "merge forgets the squares", "self.squares += other.squares", "self.squares += 0", (STAT,)),
    Mutant("core/stats.py", "the first rows of every part",
           "if self.most is None or self.rows < self.most:", "if True:", (STAT,)),
    Mutant("core/stats.py", "all rows in the second moment", "kept[:room]", "kept", (STAT,)),
    Mutant("native/sizes.cpp", "NaN is passed over", " || size != size", "", (PRODUCTS,)),
    Mutant("native/norm.cpp", "no eps", "sum / (float)n + eps", "sum / (float)n", (NORM,)),
    Mutant("native/norm.cpp", "round when it is not asked", "if (early)", "if (!early)", (NORM,)),
    Mutant("native/norm.cpp", "forget the end of a row", "for (; i < n; i++) sum", "for (; i < 0; i++) sum", (NORM,)),
    Mutant("native/portable.h", "rounded towards 0", "(bits + 0x7fff + ((bits >> 16) & 1)) >> 16", "bits >> 16",
           (NORM,)),
    Mutant("native/threads.h", "the first part alone", "for (int64_t part = 1; part < parts; part++) {",
           "for (int64_t part = 1; part < 1; part++) {", (GATED,)),
    Mutant("native/curves.h", "the other activation", "z = kind == SILU ? x", "z = kind != SILU ? x", (GATED,)),
    Mutant("native/gated.cpp", "forget what it gates", "wide(early) * wide(up[i])", "wide(early)", (GATED,)),
    Mutant("native/curves.h", "no bound on the exponent", "(size < most ? size : most)", "size", (GATED,)),
    Mutant("core/norm.py", "any module that has a weight is one", "if same(form(x), asked):", "if True:", (NORM,)),
    Mutant("core/norm.py", "any dtype", "x.dtype == form.dtype and", "x.dtype in KNOWN and", (NORM,)),
    Mutant("core/onepass.py", "a module goes on in one pass", "del module.forward", "pass", (NORM,)),
    Mutant("core/gated.py", "any module with three linears is one", "if same(_unit(stands, kind, x), asked)", "",
           (GATED,)),
    Mutant("core/gated.py", "columns as rows", " or not gate.is_contiguous()", "", (GATED,)),
    Mutant("core/probe.py", "near enough is equal", "return near and float((mine == asked).float().mean()) >= EQUAL",
           "return near", (NORM,)),
    Mutant("native/product512.cpp", "the lower half is not counted", "_mm512_slli_epi32(upper[t], 8), lower[t])",
           "_mm512_slli_epi32(upper[t], 8), upper[t])", (BY_CODES,)),
    Mutant("native/product512.cpp", "no zero is taken off",
           "_mm512_fnmadd_ps(zero, _mm512_set1_ps(x.sum[here]), whole)", "whole", (BY_CODES,)),
    Mutant("native/product.cpp", "no bias", "sums[t * BLOCK + r] + (bias ? bias[r] : 0.0f)", "sums[t * BLOCK + r]",
           (BY_CODES,)),
    Mutant("native/product.cpp", "what is no number is rounded", "std::isfinite(all) && std::isfinite(most) ?",
           "true ?", (BY_CODES,)),
    Mutant("native/tiles.cpp", "the second block is the first", "_tile_loadd(7, lines[1] + k * TILE, 64)",
           "_tile_loadd(7, lines[0] + k * TILE, 64)", (BY_CODES,)),
    Mutant("native/tiles.cpp", "pairs of the second block are the first's", "(const uint16_t *)(lines[b] + k * TILE)",
           "(const uint16_t *)(lines[0] + k * TILE)", (BY_CODES,)),
    Mutant("native/attention.cpp", "every tile of values is the first",
           "tiles_of_pairs(value + i * next, weight", "tiles_of_pairs(value, weight", (TOWER_CALLS,)),
    Mutant("native/attention.cpp", "AMX: the third tile of keys is the second",
           "_tile_loadd(4, tile + 2 * next, 64)", "_tile_loadd(4, tile + next, 64)", (TOWER_CALLS,)),
    Mutant("native/expand.cpp", "every line has the values of the first", "value += __builtin_popcount(bits);", "",
           (BY_CODES,)),
    Mutant("native/expand.cpp", "word by word: values for zeros", "stored ? *value : 0", "*value", (BY_CODES,)),
    Mutant("runtime/plan/layout.py", "every block begins where the first does", "starts=counts.cumsum(0) - counts",
           "starts=0 * counts", (BY_CODES,)),
    Mutant("native/decode.cpp", "what stands beside a product is written over it", "to[j] += from[j];",
           "to[j] = from[j];", (PLAN,)),
    Mutant("runtime/plan/build.py", "factors without their scale", "one.left.detach().float() * one.scale",
           "one.left.detach().float()", (PLAN,)),
    Mutant("core/plain.py", "a layer is asked as if it were an MLP", "or among:", ":", (TOWER_CALLS,)),
    Mutant("core/plain.py", "what is cut off far out is not", "torch.cat([x, FAR * x])", "torch.cat([x, x])",
           (TOWER_CALLS,)),
    Mutant("native/heads.h", "all heads have the first one's query", "floats16(q + g * n + i) * k",
           "floats16(q + i) * k", (PLAN,)),
    Mutant("native/heads.h", "all heads have the first one's weights", "sums[g][j] += score[g * room + e] * v",
           "sums[g][j] += score[e] * v", (PLAN,)),
    Mutant("native/mlp.cpp", "no activation", "curve(sums, wide);", "", (TOWER_CALLS,)),
    Mutant("native/mlp.cpp", "the first rows again and again", "inputs.prepare((int)row, x, stored, base + row)",
           "inputs.prepare((int)row, x, stored, row)", (TOWER_CALLS,)),
    Mutant("native/curves.h", "the upper half of the normal distribution is the lower", "bits ^= sign;", "",
           (TOWER_CALLS,)),
    Mutant("native/bidirectional.cpp", "every head has the keys of one",
           "batch * g.of_key[0] + head * g.of_key[1]",
           "batch * g.of_key[0]", (TOWER_CALLS,)),
    Mutant("core/plain.py", "any module with two linears is one", "if same(made[1](curve(made[0](x))), asked)", "",
           (TOWER_CALLS,)),
    Mutant("runtime/mlp.py", "nobody is listened to", " and host.tap is None", "", (TOWER_CALLS,)),
    Mutant("runtime/mlp.py", "a forward that is there goes", "FORWARD in vars(module) or ", "", (TOWER_CALLS,)),
    Mutant("runtime/mlp.py", "a gradient of nothing", "torch.is_grad_enabled() and x.requires_grad", "False",
           (TOWER_CALLS,)),
    Mutant("runtime/bidirectional.py", "heads of any width", " or size % WIDTHS", "", (TOWER_CALLS,)),
    Mutant("runtime/bidirectional.py", "a gradient of nothing", "not alike or taught", "not alike", (TOWER_CALLS,)),
    Mutant("anatomy/attention.py", "what looks back sees all",
           ' and not (getattr(module, "is_causal", True) if causal is None else causal)', "", (TOWER_CALLS,)),
    Mutant("anatomy/attention.py", "masks are not looked at", " and attention_mask is None", "", (TOWER_CALLS,)),
    Mutant("load/loaded.py", "once counted, never in one call again", "if self.kernels is not None:", "if False:",
           (TOWER_CALLS,)),
    Mutant("native/linear.cpp", "the first rows again and again", "inputs.prepare((int)row, x, stored, base + row)",
           "inputs.prepare((int)row, x, stored, row)", (BY_CODES,)),
    Mutant("native/pool.cpp", "a child of fork takes the parent's threads", "if (owner != PROCESS())",
           "if (pool == nullptr)", (f"{BY_CODES}::test_a_child_of_fork_has_threads_of_its_own",)),
    Mutant("native/decode.cpp", "the window is not looked at", "if (layer.window > 0)", "if (layer.window < 0)",
           (f"{PLAN}::test_a_prompt_of_several_calls_and_several_rows",)),
    Mutant("native/decode.cpp", "rows see what comes behind them", "of.last[t] = span.slots.count + row + t + 1",
           "of.last[t] = span.slots.count + one.rows", (f"{PLAN}::test_a_prompt_of_several_calls_and_several_rows",)),
    Mutant("native/moment.cpp", "odd rows are not seen", "_mm512_or_si512(low, _mm512_slli_epi32(high, 16))", "low",
           (PRODUCTS,)),
    Mutant("native/moment.cpp", "the first chunk only", "start += CHUNK", "start += job.rows",
           (PRODUCTS,)),
    Mutant("native/moment.cpp", "each thread its own panels only", "i += job.parts)\n            arrange",
           "i += 2 * job.parts)\n            arrange", (PRODUCTS,)),
    Mutant("anatomy/masks.py", "any window is long enough", "(keys[:, -1] - keys[:, 0] < window)", "(keys == keys)",
           (PLAINLY,)),
    Mutant("anatomy/masks.py", "padding does not matter", "not bool(valid.all())", "False", (PLAINLY,)),
    Mutant("anatomy/masks.py", "any order of keys", "not bool((keys.diff() > 0).all())", "False", (PLAINLY,)),
    Mutant("anatomy/masks.py", "any queries", "near and torch.equal(queries, keys[:, -queries.shape[1] :])", "near",
           (PLAINLY,)),
    Mutant("native/moment.cpp", "weights are not counted", "_mm512_set1_ps(weight)", "_mm512_set1_ps(1.0f)",
           (PRODUCTS,)),
    Mutant("core/products.py", "a product in 16 bits", "return a.float() @ b.float()", "return (a @ b).float()",
           (PRODUCTS,)),
    Mutant("core/products.py", "a diagonal counted twice", "float(made[:, start:].sum())",
           "2 * float(made[:, start:].sum())", (PRODUCTS,)),
    Mutant("native/sweep.cpp", "push errors the wrong way past a block", "-= sum[c][v]", "+= sum[c][v]", (NATIVE,)),
    Mutant("native/sweep.cpp", "push errors the wrong way within a block", "-= u[(size_t)i * k.n + j] * e",
           "+= u[(size_t)i * k.n + j] * e", (NATIVE,)),
    Mutant("native/sweep.cpp", "what is lost is not scaled back", "x = (x - value) * back[i];", "x = x - value;",
           (NATIVE,)),
    Mutant("native/sweep.cpp", "forget the pivot", " / u[(size_t)i * k.n + i]", "", (NATIVE,)),
    Mutant("native/sweep.cpp", "forget what an error counts", "lost += weight[i] * (d * d)", "lost += d * d",
           (NATIVE,)),
    Mutant("native/sweep.cpp", "scales that are not those stored", "scale = as_stored(scale, k.stored);", "",
           (NATIVE,)),
    Mutant("run/gather.py", "gather again at every linear", "if index in self.settled or index in here.shown:",
           "if index in self.settled:", (WALK,)),
    Mutant("run/gather.py", "the first lane alone", "found[0].merge(other)", "pass", (WALK,)),
    Mutant("run/walk.py", "blocks see trimmed tables", "index == (0 if how.before else 1)", "index == 1", (WALK,)),
    Mutant("run/walk.py", "a resumed block is put in place too early",
           "if not how.before:\n                bench", "if True:\n                bench", (WALK,)),
    Mutant("run/lanes.py", "an error that is not raised", "[one.result() for one in running]",
           "[one.result() for one in running if one.exception() is None]", (LANES,)),
    Mutant("run/lanes.py", "all threads for each", "torch.set_num_threads(threads)", "pass", (LANES,)),
    Mutant("core/hessian.py", "the root of H in place of that of its inverse",
           "made = inverted(lower)", "made = lower.clone()", (FIT,)),
    Mutant("core/hessian.py", "say the damping that was asked for",
           'float(done[f"{key}: used"])', "damp",
           (f"{BAD}::test_a_singular_hessian_is_damped_and_the_report_says_how_much",)),
    Mutant("core/hessian.py", "no damping", "damped.diagonal().add_(damp)", "damped.diagonal().add_(0.0)", (FIT,)),
    Mutant("core/hessian.py", "leave a hole where an input was always 0", "made.diagonal().add_((~live(h)).float())",
           "made.diagonal().add_(0.0)", (GPTQ,)),
    Mutant("core/hessian.py", "the least group first", "[groups.sum(1).argsort(descending=True",
           "[groups.sum(1).argsort(descending=False", (FIT,)),
    Mutant("core/hessian.py", "columns of a group as they stand", "groups.argsort(dim=1, descending=True, stable=True)",
           "torch.arange(group).expand_as(groups)", (FIT,)),
    Mutant("core/triangular.py", "the other corner with the wrong sign", "out[half:, :half].neg_()", "pass",
           (PRODUCTS,)),
    Mutant("core/triangular.py", "both triangles", "else h.tril_()", "else h", (PRODUCTS,)),
    Mutant("core/finite.py", "what is infinite is a number", ".isfinite().all()", ".isnan().logical_not().all()",
           (PRODUCTS,)),
    Mutant("quantize/gptq.py", "codes stay in the order of the sweep", "codes.index_select(0, back)", "codes",
           (FIT,)),
    Mutant("quantize/gptq.py", "scales stay in the order of the sweep", "scale[groups]", "scale", (FIT,)),
    Mutant("core/keep.py", "plain means", "t.float() * size[one]", "t.float()", (TOME,)),
    Mutant("core/keep.py", "lose the sizes", "SIZE: total}", "SIZE: size}", (TOME,)),
    Mutant("core/look.py", "drop the scaling", "several.float() * scaling", "several.float()", (FASTV,)),
    Mutant("core/look.py", "ignore the mask", ".masked_fill(~mask, torch.finfo(torch.float32).min)", "", (FASTV,)),
    Mutant("core/look.py", "ignore sizes", "logits = logits + mask.float()", "logits = logits + mask.clamp(max=0)",
           (SNAPKV,)),
    Mutant("core/look.py", "pair key heads with the wrong query heads", "zip(heads, k.unbind(1), strict=True)",
           "zip(heads, k.flip(1).unbind(1), strict=True)", (FASTV,)),
    Mutant("core/look.py", "see the future without a mask",
           "order.gather(1, queries)[:, :, None] >= order[:, None, :]",
           "order.gather(1, queries)[:, :, None] <= order[:, None, :]", (FASTV,)),
    Mutant("core/evict.py", "one too many", "_like(valid, score), self.capacity)",
           "_like(valid, score), self.capacity + 1)", (SINKS,)),
    Mutant("core/slot.py", "positions of others", "once(along, self.positions, plan.index)",
           "self.positions[..., : plan.index.shape[-1]]", (SLOT,)),
    Mutant("core/slot.py", "sizes of others", "once(along, self.size, plan.index)",
           "self.size[..., : plan.index.shape[-1]]", (SLOT,)),
    Mutant("core/slot.py", "count bytes of keys only", "(self.k, self.v, *own)", "(self.k, *own)", (KEEP,)),
    Mutant("core/slot.py", "a group goes with its first entry", ".any(-1)", ".all(-1)", (SLOT,)),
    Mutant("core/slot.py", "padding of a row is a group", "there & valid.gather(-1, columns)",
           "valid.gather(-1, columns)", (SLOT,)),
    Mutant("core/slot.py", "old groups again in place of new ones", "grouped // group_size + new", "0 * new", (SLOT,)),
    Mutant("core/slot.py", "keep nothing back", "(plain.sum(-1) - residual) // group_size",
           "plain.sum(-1) // group_size", (SLOT,)),
    # anatomy
    Mutant("anatomy/masks.py", "see the future", "(gap >= 0)", "(gap <= 0)", (MASKS,)),
    Mutant("anatomy/masks.py", "attend to padding", "(gap >= 0) & _by_head(valid)", "gap >= 0", (MASKS,)),
    Mutant("anatomy/masks.py", "key heads for the wrong query heads",
           "seen.repeat_interleave(heads // seen.shape[1], 1)", "seen.repeat(1, heads // seen.shape[1], 1, 1)",
           (BY_HEAD,)),
    Mutant("anatomy/masks.py", "sizes without the logarithm", "_by_head(size).log()", "_by_head(size)", (TOME,)),
    Mutant("anatomy/masks.py", "a window one too wide", "gap < window", "gap <= window", (MASKS,)),
    Mutant("anatomy/masks.py", "no mask where one is needed", "torch.equal(seen, plain.expand_as(seen))", "True",
           (NEEDED,)),
    Mutant("anatomy/masks.py", "a block that reaches past the window", "if bounded and window is not None", "if False",
           (BLOCKS,)),
    Mutant("anatomy/masks.py", "every block cut at the window", "if bounded and window is not None",
           "if window is not None", (BLOCKS,)),
    Mutant("anatomy/masks.py", "tokens of no block see one another", "& (block[:, None, :] >= 0) & valid", "& valid",
           (BLOCKS,)),
    Mutant("anatomy/masks.py", "padding sees itself where it is read",
           "valid[:, None, None, :].expand(-1, 1, valid.shape[1], -1)", "everywhere(valid)", (FILLED,)),
    Mutant("anatomy/attention.py", "forget the cap", "cap * torch.tanh(q @ k.mT * scaling / cap)", "q @ k.mT * scaling",
           (CAPPED,)),
    Mutant("anatomy/attention.py", "key heads in another order", "one.repeat_interleave(q.shape[1] // one.shape[1], 1)",
           "one.repeat(1, q.shape[1] // one.shape[1], 1, 1)", (CAPPED,)),
    Mutant("anatomy/base.py", "an empty list of pictures passes", "if shown is not None and not shown.numel():",
           "if False:", (f"{ANATOMY}::test_an_empty_list_of_pictures_is_named",)),
    Mutant("anatomy/base.py", "one place more than there are", "furthest <= most:", "furthest <= most + 1:",
           (f"{ANATOMY}::test_a_prompt_of_more_positions_than_the_model_has_is_named",)),
    Mutant("anatomy/views.py", "newlines in front", "torch.cat([whole, ends], 1)", "torch.cat([ends, whole], 1)",
           (LOOP,)),
    Mutant("anatomy/views.py", "the overview last", "torch.cat([x[0], torch.cat([whole, ends], 1).flatten(0, 1)])",
           "torch.cat([torch.cat([whole, ends], 1).flatten(0, 1), x[0]])", (LOOP,)),
    Mutant("anatomy/views.py", "borders of one side only", "columns - 2 * border[1]", "columns - border[1]", (LOOP,)),
    Mutant("anatomy/internvl.py", "neighbours of a row alone", "squares.transpose(2, 3).flatten(3)",
           "squares.flatten(3)", (LOOP,)),
    Mutant("anatomy/vit.py", "the class token last",
           "torch.cat([embeddings.cls_token.expand(len(found), -1, -1), found], 1)",
           "torch.cat([found, embeddings.cls_token.expand(len(found), -1, -1)], 1)", (LOOP,)),
    Mutant("anatomy/vit.py", "positions of the tower's own size", '*stream.about["size"]',
           "embeddings.patch_embeddings.image_size[0], embeddings.patch_embeddings.image_size[1]",
           ("tests/anatomy/test_dinov2.py::test_pictures_of_another_size_have_stretched_positions",)),
    Mutant("anatomy/opt.py", "every token at the first position", "position_ids=stream.positions)",
           "position_ids=0 * stream.positions)", (LOOP,)),
    Mutant("anatomy/whisper.py", "the encoder without its last norm", "x=self.model.model.encoder.layer_norm(sound.x)",
           "x=sound.x", (LOOP,)),
    Mutant("anatomy/whisper.py", "keys of the sound counted as words", "if name.endswith(CROSSED) else stream",
           "if False else stream", (WALK,)),
    Mutant("anatomy/vlm.py", "copies of a row share its first picture", "for index in row * times]",
           "for index in row[:1] * len(row) * times]",
           ("tests/anatomy/test_tiles.py::test_with_every_copy_of_a_row_go_all_of_its_pictures",)),
    Mutant("anatomy/loop.py", "keep the last tokens in place of the chosen",
           "chosen.long().argsort(dim=1, stable=True)",
           "stream.valid.long().argsort(dim=1, stable=True)", (KEEP,)),
    Mutant("anatomy/loop.py", "let the last token go", "chosen = stream.valid & (policy.chosen(sight) | last)",
           "chosen = stream.valid & policy.chosen(sight)", (TRIMMED,)),
    Mutant("anatomy/loop.py", "let the last token merge", "torch.where(last, here, cast(Merge, policy).into(sight))",
           "cast(Merge, policy).into(sight)", (TOME,)),
    Mutant("anatomy/loop.py", "ask the cache's policies once", "slots.settle(number)", "pass", (SINKS,)),
    Mutant("anatomy/slots.py", "forget the sizes of stored keys",
           "first = torch.ones(before.shape, device=before.device) if old is None else old",
           "first = torch.ones(before.shape, device=before.device)", (TOME,)),
    Mutant("anatomy/slots.py", "keep what rounds a stream up",
           "slot.cut(self._recent(_leading, slot.valid), self._recent)", "pass", (KEEP,)),
    Mutant("anatomy/slots.py", "forget too soon", "- positions < window", "- positions < window - 1", (TRIMMED,)),
    Mutant("anatomy/slots.py", "free what is still to be coded", "slot.grouped if grouping else slot.valid.shape[-1]",
           "slot.valid.shape[-1]", (ALONE,)),
    Mutant("anatomy/slots.py", "the next position is the newest one", "amax(1) + 1", "amax(1)", (ANATOMY,)),
    # prune
    Mutant("prune/wanda.py", "forget the inputs", "rows.float().abs() * norms", "rows.float().abs()", (FIT,)),
    Mutant("prune/wanda.py", "the square of the norm", "site.gram.squares.sqrt()", "site.gram.squares", (FIT,)),
    Mutant("prune/pattern.py", "of equals the later stays", "columns[j] > columns[i]", "columns[j] >= columns[i]",
           (PATTERN,)),
    Mutant("prune/magnitude.py", "keep the largest with their sign", "dense.float().abs()", "dense.float()", (FIT,)),
    Mutant("prune/pattern.py", "keep the least", "descending=True", "descending=False", (FIT,)),
    Mutant("prune/pattern.py", "compare whole rows in place of neighbours", "groups = score.unflatten(1, (-1, size))",
           "groups, count = score[:, None], count * score.shape[1] // size", (FIT,)),
    Mutant("prune/sparsegpt.py", "push errors the wrong way within a block", "u[a:i, i], alpha=-1)",
           "u[a:i, i], alpha=1)", (FIT,)),
    Mutant("prune/sparsegpt.py", "push no errors past a block", "w[b:].addmm_(u[a:b, b:].T, errors, alpha=-1)",
           "w[b:].addmm_(u[a:b, b:].T, errors, alpha=0)", (SPARSEGPT,)),
    Mutant("prune/sparsegpt.py", "forget the pivot", "column * ~mask[i] / u[i, i]", "column * ~mask[i]", (FIT,)),
    Mutant("prune/sparsegpt.py", "choose by size alone", "(now.square() * worth[ahead, None])", "now.square()", (FIT,)),
    Mutant("prune/sparsegpt.py", "choose on weights of before", "u[a:i, ahead].T, errors[: i - a], alpha=-1)",
           "u[a:i, ahead].T, errors[: i - a], alpha=0)", (FIT,)),
    Mutant("prune/sparsegpt.py", "forget which inputs are dead", "counts / u.diagonal()", "1 / u.diagonal()",
           (SPARSEGPT,)),
    # factorize
    Mutant("factorize/eora.py", "forget how inputs go together", 'seen(site, "eora")',
           'seen(site, "eora").diagonal().diag()', (FIT,)),
    Mutant("factorize/svd.py", "a metric that is none", "torch.eye(w.shape[1])", "torch.ones(w.shape[1], w.shape[1])",
           (FIT,)),
    Mutant("factorize/residue.py", "give back what was not lost", "source[index].to(kind) - rows(w, index).to(kind)",
           "rows(w, index).to(kind) - source[index].to(kind)", (FIT,)),
    Mutant("factorize/residue.py", "the least in place of the leading", "vectors.flip(1)[:, :r]", "vectors[:, :r]",
           (FIT,)),
    Mutant("factorize/residue.py", "forget H where there are few rows", "d @ h @ d.T", "d @ d.T", (FIT,)),
    Mutant("factorize/residue.py", "leave the root of H in A", "(q / spread).T", "q.T", (FIT,)),
    Mutant("factorize/residue.py", "a sign by chance", "vectors * peaks.sign()", "vectors * -peaks.sign()",
           (EORA,)),
    Mutant("core/sparse.py", "values in another order", "self.kept(), self.values", "self.kept(), self.values.flip(0)",
           (WEIGHT,)),
    Mutant("core/sparse.py", "take more bytes where fewer would do", "count * width <= _coordinate_bits",
           "count * width > _coordinate_bits", (WEIGHT,)),
    Mutant("core/sparse.py", "coordinates of another row", "first - counts.cumsum(0) + counts",
           "first - counts.cumsum(0)", (WEIGHT,)),
    Mutant("core/sparse.py", "rows in order begin with the first value", "w.values[first[0] :]", "w.values", (WEIGHT,)),
    Mutant("core/sparse.py", "drop the values of few rows", "wide(flat[:, column]) * wide(self.values)",
           "wide(flat[:, column])", (WEIGHT,)),
    Mutant("core/sparse.py", "columns that wrap around", "width <= 1 << 15", "width <= 1 << 20", (WEIGHT,)),
    Mutant("core/sparse.py", "rows begin one too late", "counts.cumsum(0) - counts", "counts.cumsum(0)", (WEIGHT,)),
    # adapt
    Mutant("adapt/lora.py", "the scale of LoRA for rsLoRA", "self.r**0.5 if self.use_rslora else self.r", "self.r",
           (ADAPT, LORA)),
    Mutant("adapt/lora.py", "begin with a change", "torch.zeros(out, self.r)", "torch.ones(out, self.r)", (LORA,)),
    Mutant("adapt/lora.py", "fill what was pruned", "if isinstance(w, Masked):", "if False:", (ADAPT,)),
    Mutant("adapt/lora.py", "hand on what is still trained", "low.left.detach().to(dtype)", "low.left.to(dtype)",
           (ADAPT,)),
    Mutant("adapt/merge.py", "leave the adapter out", "w.dense().detach(), list(leaves(w))",
           "next(leaves(w)).dense().detach(), list(leaves(w))", (ADAPT,)),
    Mutant("adapt/merge.py", "see no adapter within a chain", "any(isinstance(leaf, LowRank) for leaf in leaves(w))",
           'w.spec()["kind"] == "sum"', (LORA,)),
    Mutant("adapt/merge.py", "see no levels", "isinstance(leaf, Quantized | Codebook)", "isinstance(leaf, Quantized)",
           (ADAPT,)),
    Mutant("adapt/merge.py", "round without being allowed to", "if grids and not self.requantize:", "if False:",
           (ADAPT,)),
    Mutant("adapt/load.py", "load nothing", "return read(Path(self.path).expanduser())", "return {}", (ADAPT,)),
    Mutant("adapt/peft.py", "the scale of LoRA for rsLoRA", 'rank**0.5 if config.get("use_rslora") else rank', "rank",
           (PEFT,)),
    Mutant("adapt/peft.py", "forget DoRA's norm", "self.magnitude.float() / norm", "self.magnitude.float()", (PEFT,)),
    Mutant("adapt/peft.py", "swap A and B", 'LowRank(parts["lora_B"], parts["lora_A"], scale)',
           'LowRank(parts["lora_A"].T, parts["lora_B"].T, scale)', (PEFT,)),
    Mutant("run/tune.py", "hand on the last in place of the best", "self._put(best)\n        return where",
           "return where", (TUNE,)),
    Mutant("run/tune.py", "forget the optimizer on resume", "adam.state[value] = {", "_ = {", (TUNE,)),
    Mutant("core/joins.py", "subtract what is to be added", "y = y + part(x)", "y = y - part(x)", (WEIGHT,)),
    Mutant("core/joins.py", "the first sees the input first", "for part in reversed(others):", "for part in others:",
           (WEIGHT,)),
    Mutant("core/joins.py", "add what is to be multiplied", "for part in self]).prod(0)", "for part in self]).sum(0)",
           (WEIGHT,)),
    Mutant("core/factors.py", "drop the scale", "thin if self.scale == 1.0 else thin * self.scale", "thin", (WEIGHT,)),
    Mutant("core/factors.py", "drop the bias of a diagonal", "return y if bias is None else y + bias", "return y",
           (WEIGHT,)),
    # robust
    Mutant("robust/corruptions/picture.py", "let values go round in place of cutting them",
           "np.rint(np.clip(x, 0, 255))", "np.rint(x % 256)", (PERTURB,)),
    Mutant("robust/corruptions/picture.py", "cut fractions off", "np.rint(np.clip", "np.floor(np.clip", (PERTURB,)),
    Mutant("robust/corruptions/picture.py", "the strongest first", "table[severity - 1]", "table[-severity]",
           (PERTURB,)),
    Mutant("robust/corruptions/noise.py", "drop the full range", "255 * at(", "at(", (PERTURB,)),
    Mutant("robust/corruptions/noise.py", "one draw for all channels", "standard_normal(x.shape,",
           "standard_normal((*x.shape[:2], 1),", (PERTURB,)),
    Mutant("robust/corruptions/noise.py", "the same draw for every seed", "PCG64(seed)", "PCG64(0)", (PERTURB,)),
    Mutant("robust/corruptions/blur.py", "forget the size of the picture", " * min(image.size) / REFERENCE", "",
           (PERTURB,)),
    Mutant("robust/corruptions/blur.py", "drop the half of the exponent", "np.exp(-0.5 *", "np.exp(-1.0 *",
           (PERTURB,)),
    Mutant("robust/corruptions/blur.py", "the other edge beyond an edge", 'mode="edge"', 'mode="wrap"', (PERTURB,)),
    Mutant("robust/corruptions/blur.py", "move the picture", "[2 * reach :].T", "[reach:-reach].T", (PERTURB,)),
    Mutant("robust/corruptions/blur.py", "lose light", "kernel /= kernel.sum()", "kernel /= kernel.sum() + 0.1",
           (PERTURB,)),
    Mutant("robust/corruptions/jpeg.py", "a quality one higher", "quality=at(QUALITY, self.severity)",
           "quality=1 + at(QUALITY, self.severity)", (PERTURB,)),
    Mutant("robust/corruptions/contrast.py", "forget the mean", "(x - mean) + mean", "x + mean", (PERTURB,)),
    Mutant("robust/corruptions/contrast.py", "one mean for all channels", "x.mean((0, 1), dtype", "x.mean(dtype",
           (PERTURB,)),
    Mutant("robust/corruptions/occlusion.py", "a share of the side in place of the area",
           "math.sqrt(at(SHARE, self.severity))", "at(SHARE, self.severity)", (PERTURB,)),
    Mutant("robust/corruptions/occlusion.py", "never at the lower right edge", "(0, room + 1)", "(0, max(1, room))",
           (PERTURB,)),
    Mutant("robust/corruptions/occlusion.py", "fill with half of the values", "(0, 256, (high", "(0, 128, (high",
           (PERTURB,)),
    Mutant("run/views.py", "the same draw for all pictures", "said + image.tobytes()", "said",
           (f"{SHOWN}::test_a_view_is_the_same_for_the_same_picture_and_seed_and_no_other",)),
    Mutant("run/robustness.py", "flip the sign of the change", "0.0 - found.value", "found.value",
           (f"{SHOWN}::test_rows_compare_the_same_questions_on_both_sides",)),
    Mutant("run/baseline.py", "forget what was shown", "None if view is None else [view.name, view.seed]", "None",
           (f"{SHOWN}::test_what_is_shown_is_part_of_the_name_of_what_is_kept",)),
    # run
    Mutant("order.py", "let anything follow", "if what not in {*card.preserves, *card.consumes})", "if False)",
           (FOLLOW,)),
    Mutant("run/follow.py", "take back what was learnt", "if card.wants_source and learnt:", "if False:", (FOLLOW,)),
    Mutant("run/follow.py", "give back what nothing took", "if card.wants_source and not standing:", "if False:",
           (FOLLOW,)),
    Mutant("run/invariants.py", "look at the layer, not into it", "found = [wrong(leaf) for leaf in leaves(w)",
           "found = [wrong(leaf) for leaf in [w]", (FOLLOW,)),
    # runtime
    Mutant("runtime/compose.py", "forget what is added", "y = y + part(x)", "y = y + 0 * part(x)", (COMPOSE,)),
    Mutant("runtime/compose.py", "forget what stands before", "x = part(x)", "x = x + 0 * part(x)", (COMPOSE,)),
    Mutant("runtime/compose.py", "drop the bias", "y = first(x, bias)", "y = first(x)", (COMPOSE,)),
    Mutant("run/timing.py", "say timed of what is simulated", 'replace(one, how="simulated")', "one", (TIMING,)),
    Mutant("run/judge.py", "be silent of what is simulated", "] if count else []", "] if False else []",
           (TIMING,)),
    Mutant("run/invariants.py", "let levels be others", "(w.levels, w.group_size) != (",
           "False and (0, 0) != (", (FOLLOW,)),
    Mutant("runtime/lower.py", "call nothing simulated", "if any(_simulated(leaf) for leaf in leaves(host.w))",
           "if False", (COMPOSE,)),
    Mutant("runtime/kernels.py", "scales of a large group in another order",
           ".repeat_interleave(w.group_size // group_size, 1)",
           ".repeat(1, w.group_size // group_size, 1)", (KERNELS,)),
    Mutant("runtime/compose.py", "a mask's matrix for thin", "and w.mask is None", "", (COMPOSE,)),
    Mutant("run/finite.py", "weights that are numbers for those that are not", "(~rows(w, index).isfinite())",
           "rows(w, index).isfinite()", (f"{BAD}::test_weights_that_are_no_numbers_are_refused_before_any_work",)),
    Mutant("run/finite.py", "inputs of infinite size pass", "squares.isfinite())", "squares.isnan())",
           (f"{BAD}::test_inputs_that_are_no_numbers_name_their_layer",)),
    Mutant("run/settle.py", "round what should be left", 'if self.unseen == "round"', 'if self.unseen != "refuse"',
           (f"{BAD}::test_a_branch_that_calibration_never_reached_is_named_left_or_rounded",)),
    Mutant("run/said.py", "say nothing of what was damped more", "damp\"] > asked", "damp\"] < asked",
           (f"{BAD}::test_what_is_said_of_damping_unreached_layers_and_missing_samples",)),
    Mutant("runtime/kernels.py", "flip the sign of the offset", "(8 - w.zero.float()) * scale",
           "(w.zero.float() - 8) * scale", (KERNELS,)),
    Mutant("runtime/kernels.py", "the first part of a matrix in place of each", "dense(slice(start, start + step))",
           "dense(slice(0, step))[: out - start]", (KERNELS,)),
    Mutant("runtime/kernels.py", "drop the bias", "y if bias is None else y.add_(bias)", "y", (KERNELS,)),
    Mutant("runtime/held.py", "forget who else is held", "for w in weights if",
           "for w in list(weights)[:1] if", (HELD,)),
    Mutant("runtime/held.py", "drop the bias", "None if bias is None else bias.to(dtype)", "None", (HELD,)),
    Mutant("runtime/kernels.py", "drop the scale of int8", ".mul_(self.scale.to(dtype))", "", (KERNELS,)),
    Mutant("runtime/kernels.py", "forget the sign of int8", "(w.codes ^ 128)", "w.codes", (KERNELS,)),
    # of activations and budgets
    Mutant("core/acts.py", "forget the token's scale", "sums.float().mul_(t).mul_", "sums.float().mul_", (INT8,)),
    Mutant("core/acts.py", "one scale for all tokens", "x.abs().amax(-1, keepdim=True)",
           "x.abs().amax().expand(len(x), 1)", (INT8,)),
    Mutant("core/acts.py", "codes beyond the grid", ".clamp_(-TOP, TOP)", "", (INT8,)),
    Mutant("core/acts.py", "round what is not yet scaled", "flat = factor(flat)", "flat = flat + 0 * factor(flat)",
           (SMOOTH,)),
    Mutant("core/acts.py", "let a gradient of nothing through", "raise TypeError(f\"{ctx.name}: rounds",
           "return None, None, None\n        raise TypeError(f\"{ctx.name}: rounds", (INT8,)),
    Mutant("core/linear.py", "show the tap a rounded input", "if self.tap is not None:\n            self.tap(self, x)",
           "if self.tap is not None:\n            self.tap(self, x if self.acts is None else x.round())", (INT8,)),
    Mutant("core/native.py", "the largest input of the last batch", "torch.maximum(largest, size.amax(0), out=largest)",
           "torch.amax(size, 0, out=largest)", (PRODUCTS,)),
    Mutant("core/stats.py", "the largest input of the first part", "torch.maximum(self.largest, other.largest)",
           "self.largest", (SMOOTH,)),
    Mutant("runtime/int8.py", "trust every CPU's product", "return None if exact() else", "return None if True else",
           (INT8,)),
    Mutant("runtime/int8.py", "forget the factors", "before(self.factors, part)", "before((), part)", (INT8,)),
    Mutant("runtime/int8.py", "forget the last piece", "range(0, len(flat), step)",
           "range(0, max(1, len(flat) - step), step)", (INT8,)),
    Mutant("runtime/lower.py", "hosts share a kernel though one rounds its input", "return id(host.w), host.acts",
           "return id(host.w), None", (INT8,)),
    Mutant("core/staticacts.py", "what is larger wraps around", ".clamp_(-TOP, TOP)", "", (STATIC,)),
    Mutant("core/staticacts.py", "an infinite input is hidden", "x.isfinite().all(-1, keepdim=True)",
           "torch.ones_like(x[:, :1]) > 0", (STATIC,)),
    Mutant("core/staticacts.py", "a scale of nothing", "and scale > 0", "", (ROUNDED,)),
    Mutant("quantize/thresholds.py", "what is clipped is forgotten", "p[-1] += bins[kept:].sum()", "pass", (STATIC,)),
    Mutant("quantize/thresholds.py", "the other divergence", "(p[there] * (p[there] / q[there]).log())",
           "(q[there] * (q[there] / p[there]).log())", (STATIC,)),
    Mutant("quantize/thresholds.py", "empty bins get a share", "torch.where(p > 0, (total / holding)[level], 0.0)",
           "(total / holding)[level].nan_to_num(0)", (STATIC,)),
    Mutant("quantize/thresholds.py", "every size counts one", "counts.double()[order].cumsum(0)",
           "torch.ones_like(counts.double()).cumsum(0)", (STATIC,)),
    Mutant("quantize/w8a8_static.py", "half the range", "largest / TOP", "largest / (2 * TOP)", (STATIC,)),
    Mutant("quantize/w8a8_static.py", "a sampled row stands for itself", "weight * int(sample.seen[kind]) / len(rows)",
           "weight", (STATIC,)),
    Mutant("quantize/w8a8_static.py", "kinds that count nothing", "len(rows) and weight:", "len(rows):", (STATIC,)),
    Mutant("run/settle.py", "a resumed block forgets to round", "self.put(name, w, acts.get(name))",
           "self.put(name, w, None)", (STATIC,)),
    Mutant("export/int8inputs.py", "a fixed grid is said to be dynamic", '"dynamic": not static', '"dynamic": True',
           (f"{INPUTS}::test_a_fixed_grid_is_the_engines_too",)),
    Mutant("quantize/w8a8.py", "a grid that is not centred", "symmetric=True", "symmetric=False", (FIT,)),
    Mutant("quantize/w8a8.py", "sums of any length", "if width > LONGEST:", "if width > 2 * LONGEST:", (W8A8,)),
    Mutant("quantize/smoothquant.py", "move the range the other way", "alpha * inputs", "-alpha * inputs", (SMOOTH,)),
    Mutant("quantize/smoothquant.py", "divide the weights", "back = (1 / factors(", "back = (factors(", (SMOOTH,)),
    Mutant("quantize/smoothquant.py", "factors for each linear of its own", "site.peers or (w,)", "(w,)", (SMOOTH,)),
    Mutant("quantize/allocate.py", "lose the most", "cost * scale for row", "-cost * scale for row", (MIXED,)),
    Mutant("quantize/allocate.py", "leave some of the budget", "left = (limit.most - ", "left = (0.95 * limit.most - ",
           (MIXED,)),
    Mutant("quantize/allocate.py", "take what the tolerance lets through",
           "if all(limit.used(chosen) <= limit.most for limit in limits):", "if limits:", (MIXED,)),
    Mutant("quantize/mixed.py", "the fewest bits that are paid for", "self.at(max(paid))", "self.at(min(paid))",
           (MIXED,)),
    Mutant("quantize/mixed.py", "forget what AWQ stores beside the codes", 'if self.method == "awq" else 0',
           "if False else 0", (MIXED,)),
    Mutant("quantize/mixed.py", "errors as if all inputs were alike", "((d @ h) * d)", "(d * d)", (MIXED,)),
    Mutant("run/trial.py", "weigh a block by the gradient before it", "min(index + 1, len(sensed.blocks) - 1)",
           "index", (ALLOCATE,)),
    Mutant("run/trial.py", "count padding", "counts[PADDING] = 0", "pass", (ALLOCATE,)),
    Mutant("run/trial.py", "trim in the pass that only looks", "        return w\n", "        return rounded\n",
           (ALLOCATE,)),
    Mutant("run/allocate.py", "time a shape for every layer", "for grid in grids if grid not in once",
           "for grid in grids", (ALLOCATE,)),
    Mutant("run/allocate.py", "ten times the time", "mixed.milliseconds / 1000", "mixed.milliseconds / 100",
           (ALLOCATE,)),
    Mutant("runtime/arena.py", "packed to the byte", "self.at += room", "self.at += value.nbytes", (PLACE,)),
    Mutant("runtime/release.py", "nothing is let go", "    drop(gone)\n", "", (PLACE,)),
    Mutant("runtime/place.py", "a plan that answers otherwise is taken", "if wrong is None else (None, wrong)",
           "if wrong is None else (engine, wrong)", (PLACE,)),
    Mutant("runtime/plan/verify.py", "whatever it answers", "if not far <= near:\n                return (",
           "if far < 0:\n                return (", (f"{PLAN}::test_a_layer_that_answers_otherwise_is_found",)),
    Mutant("runtime/plan/angles.py", "every layer as the first", "self.made[kind] for kind in self.decoder.kinds",
           "self.made[self.decoder.kinds[0]] for kind in self.decoder.kinds",
           (f"{PLAN}::test_it_generates_what_the_model_does",)),
    Mutant("runtime/plan/build.py", "angles past the model's own positions", "self.spec.positions), self.angles.most)",
           "self.spec.positions), 1 << 20)", (f"{PLAN}::test_angles_reach_as_far_as_they_are_asked_for",)),
    Mutant("runtime/plan/greedy.py", "guesses are kept as they were made", "for i in range(count - 1) if int(said[i])",
           "for i in range(0) if int(said[i])", (f"{PLAN}::test_guessing_changes_no_word",)),
    Mutant("runtime/plan/engine.py", "positions are not looked at",
           '_within("positions", positions, self.plan.angles.most)', "None",
           (f"{PLAN}::test_angles_reach_as_far_as_they_are_asked_for",)),
    Mutant("runtime/times.py", "one row whatever was asked", "torch.randn(rows, grid.width",
           "torch.randn(1, grid.width", ("tests/runtime/test_times.py",)),
    Mutant("run/settle.py", "leave the inputs as they are", "host.acts = acts",
           "host.acts = None", (W8A8,)),
    Mutant("run/settle.py", "an earlier step's rounding stays", "host.acts = acts",
           "host.acts = acts or host.acts", (W8A8,)),
    Mutant("run/invariants.py", "a rounding that is gone still stands", "if host.acts is None or host.acts.spec()",
           "if host.acts is not None and host.acts.spec()", (W8A8,)),
    Mutant("load/artifact.py", "an artifact forgets to round", "host.acts = activation(spec)", "activation(spec)",
           (ROUNDED,)),
    Mutant("export/files.py", "write rounded inputs as if they were not", "    if rounding:",
           "    if False:", (ROUNDED,)),
    # of exports
    Mutant("export/compressed_tensors.py", "another zero", "F.pad(w.zero.T, ", "F.pad(w.zero.T ^ 1, ", (CT,)),
    Mutant("export/compressed_tensors.py", "zeros lie along the groups", "_words(pack(lanes.contiguous(), w.bits)).T",
           "_words(pack(lanes.contiguous(), w.bits))", (CT,)),
    Mutant("export/compressed_tensors.py", "the engine is not told to round",
           "None if static is None else int8inputs.described(static)", "None",
           (f"{INPUTS}::test_the_engines_own_reader_finds_our_numbers_and_its_own_rule_chooses_the_format",)),
    Mutant("export/int8inputs.py", "bytes of the other sign", "found.codes.contiguous()", "-found.codes",
           (f"{INPUTS}::test_the_engines_own_reader_finds_our_numbers_and_its_own_rule_chooses_the_format",)),
    Mutant("export/int8inputs.py", "forget the factors", "if not isinstance(host.w, Quantized):", "if False:",
           (f"{INPUTS}::test_what_it_cannot_express_is_refused_by_name",)),
    Mutant("export/int8inputs.py", "a head that is the table", "if id(host.w) in tables:", "if False:",
           (f"{INPUTS}::test_what_it_cannot_express_is_refused_by_name",)),
    Mutant("export/questions.py", "rounding hides a wrong byte", "Question(second, exact,", "Question(second, False,",
           (f"{INPUTS}::test_a_flipped_byte_does_not_leave_though_rounding_would_hide_it",)),
    Mutant("export/forms.py", "our own answers stay rounded", "host.acts, host.kernel = None, None",
           "host.kernel = None", (f"{INPUTS}::test_transformers_answers_as_we_do",)),
    Mutant("export/checks/compressed_tensors.py", "always rounded", '"unrounded" not in sys.argv[3:]', "True",
           (f"{INPUTS}::test_transformers_answers_as_we_do",)),
    Mutant("export/towers.py", "a head is a class", 'return name if "." in name else', "return name if True else",
           (f"{TOWERS}::test_a_pattern_finds_the_module_in_either_naming",)),
    Mutant("export/towers.py", "the library's own names", 'return f"{path}.{INNER}{name.removeprefix(path)}"',
           "return name", (f"{TOWERS}::test_an_exported_tower_has_its_published_names",)),
    Mutant("export/awq.py", "a dense tower by one name", "dense = towers(loaded.library), ", "dense = (), ",
           (f"{TOWERS}::test_an_exported_tower_has_its_published_names",)),
    Mutant("export/gptq.py", "zeros of the first version as they are", "zeros(w) - 1 if first", "zeros(w) if first",
           (f"{LAYOUTS}::test_gptqs_words_element_by_element",)),
    Mutant("export/gptq.py", "first version for every zero", "int(zeros(w).min()) > 0", "int(zeros(w).min()) >= 0",
           (f"{LAYOUTS}::test_a_zero_of_nothing_and_three_bits_take_the_second_version",)),
    Mutant("export/awq.py", "outputs in a row", "(0, 2, 4, 6, 1, 3, 5, 7)", "(0, 1, 2, 3, 4, 5, 6, 7)",
           (f"{LAYOUTS}::test_awqs_words_element_by_element",)),
    Mutant("export/gate.py", "a lower perplexity is always near", "abs(self.perplexity / self.reference - 1)",
           "(self.perplexity / self.reference - 1)", (f"{DELIVER}::test_what_is_near_enough",)),
    Mutant("export/gate.py", "single losses do not count", "self.worst <= LOSS", "self.worst >= 0",
           (f"{DELIVER}::test_what_is_near_enough",)),
    Mutant("export/checks/shared/library.py", "a rounded factor of the word table",
           "module.embed_scale.fill_(module.scalar_embed_scale)", "pass",
           (f"{GGUF}::test_what_leaves_is_what_the_other_reader_runs",)),
    Mutant("export/checks/shared/teacher.py", "each token's own loss", "losses(found[:-1], ids[1:])",
           "losses(found[:-1], ids[:-1])", (f"{DELIVER}::test_the_arithmetic_of_a_check",)),
    Mutant("export/checks/shared/teacher.py", "placeholders count", 'row["greedy"])[here])', 'row["greedy"]))',
           (f"{DELIVER}::test_the_arithmetic_of_a_check",)),
    Mutant("export/samples.py", "padding stays", "row[mask][0].bool()", "row[mask][0] >= 0",
           (f"{DELIVER}::test_samples_are_rows_of_their_own_answered_in_float32",)),
    Mutant("export/state.py", "biases of shared matrices are lost", "module.bias is not None:",
           "module.bias is not None and f\"{path}.weight\" in found:",
           ("tests/export/test_families.py::test_a_shared_matrix_is_written_once_and_every_bias",)),
    # of gguf
    Mutant("export/gguf/blocks.py", "flip the sign of the least value", "least = (level - codes)",
           "least = (codes - level)", (GGUF_BLOCKS,)),
    Mutant("export/gguf/blocks.py", "exchange the halves of a byte", "low[..., :16] | (low[..., 16:] << 4)",
           "low[..., 16:] | (low[..., :16] << 4)", (GGUF_BLOCKS,)),
    Mutant("export/gguf/blocks.py", "drop the fifth bit", "pack((raised >> 4)", "pack((raised >> 5)", (GGUF_BLOCKS,)),
    Mutant("export/gguf/blocks.py", "round scales that float16 does not hold", "x.double()).all()",
           "x.double()).any()", (GGUF_BLOCKS,)),
    Mutant("export/gguf/language.py", "leave what is turned together apart", ".transpose(1, 2).reshape(-1)",
           ".reshape(-1)", (GGUF_BLOCKS,)),
    Mutant("export/gguf/language.py", "forget the one in Gemma's norms", "value.float() + 1 if", "value.float() + 0 if",
           (f"{GGUF_BACK}[gemma3]",)),
    Mutant("export/gguf/families.py", "turn the rows of Qwen too", 'Family("qwen2")', 'Family("qwen2", turned=True)',
           (f"{GGUF_BACK}[qwen2]",)),
    Mutant("export/gguf/vocabulary.py", "scores upside down", "-float(rank)", "float(rank)", (GGUF_WORDS,)),
    Mutant("export/gguf/vision.py", "one layer of the tower too few", "num_hidden_layers) + shown + 1",
           "num_hidden_layers) + shown", (f"{GGUF}::test_keys_are_those_that_llama_cpp_asks_for",)),
    Mutant("export/gguf/vision.py", "take the norms of a layer for each other",
           '"layer_norm1": "ln1", "layer_norm2": "ln2"', '"layer_norm1": "ln2", "layer_norm2": "ln1"', (GGUF_READ,)),
    Mutant("load/gguf_config.py", "drop biases", 'config.attention_bias = "blk.0.attn_q.bias" in tensors',
           "config.attention_bias = False", (f"{GGUF_BACK}[llama]",)),
    Mutant("load/gguf_config.py", "forget the divisors of frequencies", 'if "rope_freqs.weight" in tensors:',
           "if not tensors:", (f"{GGUF_BACK}[llama-3.1]",)),
    Mutant("load/gguf_config.py", "keep the default scale of queries", "config.query_pre_attn_scalar =",
           "config.unread =", (f"{GGUF_BACK}[gemma3]",)),
    # of k-quants
    Mutant("export/gguf/kbytes.py", "the upper bits of a least value are lost", "| (one[..., high] >> 4) << 6",
           "| (sc[..., high] >> 4) << 6", (K_READ,)),
    Mutant("export/gguf/kbytes.py", "neighbours share a byte of three bits", "unflatten(2, (2, 4, 32))",
           "unflatten(2, (2, 32, 4)).transpose(2, 3)", (K_READ,)),
    Mutant("export/gguf/kbytes.py", "scales of three bits from another origin", "w.scale[1][rows] + 32",
           "w.scale[1][rows] + 31", (K_READ,)),
    Mutant("export/gguf/kquant.py", "least values are added", "found - spread(least)", "found + spread(least)",
           (K_READ,)),
    Mutant("export/gguf/kquant.py", "what is larger is chosen, too", "_room(grid.kind) < _room(kind)",
           "_room(grid.kind) <= _room(kind)", (KQUANTS,)),
    Mutant("export/gguf/kround.py", "scales below 0 keep their codes", "top - codes, codes)", "codes, codes)",
           (KQUANTS,)),
    Mutant("export/gguf/kround.py", "the first that is tried is kept", "better = error < best",
           "better = best == torch.inf", (KQUANTS,)),
    Mutant("export/gguf/kround.py", "of each block the worse", "_squares(x, first) <= _squares(x, other)",
           "_squares(x, first) > _squares(x, other)", (KQUANTS,)),
    Mutant("export/gguf/coarse.py", "nothing is put in its place", "if w.off}", "if w.off < 0}", (K_ASKED,)),
    Mutant("export/questions.py", "what is written is asked by averages", 'Question(first, exact, name="as_written")',
           'Question(first, False, name="as_written")',
           (f"{KFILES}::test_a_wrong_byte_does_not_leave_though_rounding_would_hide_it",)),
    Mutant("export/questions.py", "the artifact is not asked for", "            host.w = w\n", "            pass\n",
           (K_ASKED,)),
    # of graphs
    Mutant("export/integers.py", "signed from the wrong origin", "(codes - half(w))", "(codes - half(w) + 1)",
           (CODES,)),
    Mutant("export/integers.py", "the first code of a byte is high", "even[0::2] | (even[1::2] <<",
           "even[1::2] | (even[0::2] <<", (CODES,)),
    Mutant("export/graph/decoding.py", "a window one too wide", "(gap < window)", "(gap <= window)", (WINDOWS,)),
    Mutant("export/graph/decoding.py", "padding is seen", "near & valid[:, None, :]",
           "near & (valid[:, None, :] | near)", (WINDOWS,)),
    Mutant("export/graph/points.py", "the words' factor is lost", "found * self.factor", "found", (WINDOWS,)),
    Mutant("export/onnxpoints.py", "zeros are added", '"Sub", [pen.cast(codes)', '"Add", [pen.cast(codes)', (ONNX,)),
    Mutant("core/ovquiet.py", "telemetry while the folder is written", "sys.modules[TELEMETRY] = None",
           "pass", (SILENCE,)),
    Mutant("export/checks/openvino.py", "telemetry in the check", 'sys.modules["openvino_telemetry"] = None', "pass",
           (SILENCE,)),
    Mutant("export/ovpoints.py", "zeros are added", "op.subtract(values", "op.add(values", (IR,)),
    # of matrices that stay in their files
    Mutant("core/place.py", "believe a file that changed", "if stamp_of(os.fstat(file.fileno())) != self.stamp:",
           "if not self.stamp:", (CHANGED,)),
    Mutant("core/place.py", "know a file again by its size alone", "return stat.st_size, stat.st_mtime_ns, stat.st_ino",
           "return stat.st_size, 0, 0", (CHANGED,)),
    Mutant("core/place.py", "take the next tensor for a row", "0 <= int(wanted[0]) <= int(wanted[-1]) < self.shape[0]",
           "True", (TENSORFILE,)),
    Mutant("core/place.py", "rows in the file's order", "else found[inverse]", "else found[inverse.sort().values]",
           (TENSORFILE,)),
    Mutant("core/place.py", "begin at the header", "start + entry.begin", "entry.begin", (TENSORFILE,)),
    Mutant("core/tensorfile.py", "sort by name alone", "(-ORDER.index(tensors[name].dtype), name)", "name",
           (TENSORFILE,)),
    Mutant("core/tensorfile.py", "a header of any length", '" " * (-len(text) % 8)', '" " * 0', (TENSORFILE,)),
    Mutant("core/stored.py", "store the blank", "self.value if keep_vars else self.dense()", "self.value", (LAWS,)),
    Mutant("core/stored.py", "forget the cast", "self.place.read().to(self.dtype)", "self.place.read()", (LAWS,)),
    Mutant("core/stored.py", "be cast without a word", "if (moved.dtype, moved.device) !=",
           "if False and (moved.dtype, moved.device) !=", (STREAM,)),
    Mutant("load/tensors.py", "write the blank", "late.get(name, value.detach())", "value.detach()", (GEMMA_STREAMS,)),
    Mutant("load/stream.py", "leave tied pairs that may differ", "and taken[id(value)] == 1", "and True",
           (TIED_TWICE,)),
    Mutant("load/stream.py", "tied hosts read apart", "weights.setdefault(address, Stored(place, value.dtype))",
           "Stored(place, value.dtype)", (GEMMA_STREAMS,)),
    Mutant("load/stream.py", "wait until nothing fits", "size <= SHARE * room", "size <= room",
           (f"{STREAM}::test_by_itself_where_memory_is_short",)),
    Mutant("load/stream.py", "load what does not fit", "if stream or size > room:", "if stream:",
           (f"{STREAM}::test_what_cannot_be_streamed_is_refused_or_loaded_as_usual",)),
    Mutant("runtime/held.py", "hold a copy of what lies in a file", "AS_IT_IS = (Dense, Stored)", "AS_IT_IS = (Dense,)",
           (PHI_STREAMS,)),
    Mutant("core/heap.py", "keep what was freed", "trim(0)", "pass",
           ("tests/run/test_heap.py::test_what_stays_does_not_hold_what_was_freed_before_it",)),
    Mutant("run/check.py", "begin what needs the whole model", "if context.loaded.streamed:", "if False:",
           (f"{STREAMED}::test_what_needs_the_model_in_memory_is_refused_before_any_work",)),
    # of memory and engines
    Mutant("core/bounded.py", "what was made first goes first", "self._kept.move_to_end(key)", "pass", (MEMORY,)),
    Mutant("core/bounded.py", "room is told anew", "self._drop(key)\n            if", "if", (MEMORY,)),
    Mutant("core/bounded.py", "shapes are no content", "{value.dtype} {tuple(value.shape)};", ";", (MEMORY,)),
    Mutant("anatomy/recall.py", "words are content", "if name not in OF_WORDS and", "if", (MEMORY,)),
    Mutant("anatomy/recall.py", "look again", "if value is None]", "]", (MEMORY,)),
    Mutant("anatomy/recall.py", "pictures in the order of new ones", "map(known.get, keys)", "known.values()",
           (MEMORY,)),
    Mutant("anatomy/recall.py", "too many words", "self.anatomy.fits(batch, text)", "pass",
           (MEMORY,)),
    Mutant("runtime/plan/prefix.py", "places are no content",
           " & (self.positions[:short] == other.positions[:short])", "", (MEMORY,)),
    Mutant("runtime/plan/prefix.py", "all that is common is taken", "min(found[0], most), None", "found[0], None",
           (MEMORY,)),
    Mutant("runtime/plan/prefix.py", "hand out what is kept",
           "one.beginning(rows, len(content) - rows + ROOM)", "one", (MEMORY,)),
    Mutant("runtime/plan/prefix.py", "beginnings of what is there are kept too",
           "any(same == rows for _, _, same in shared)", "False", (MEMORY,)),
    Mutant("runtime/plan/prompt.py", "any layers are a whole", "len(layers) == self.engine.plan.count", "True",
           (MEMORY,)),
    Mutant("runtime/plan/prompt.py", "what is asked for is known", "(source[rows[:-1]] < self.first).sum()",
           "len(rows) - 1", (MEMORY,)),
    Mutant("anatomy/loop.py", "a policy that keeps all is asked", "if policy.idle:", "if False:", (KEEPS_ALL,)),
    Mutant("anatomy/loop.py", "a policy that keeps all looks",
           "return layer in chosen and not chosen[layer].idle", "return layer in chosen", (KEEPS_ALL,)),
    Mutant("native/pool.cpp", "threads of its own", "if (from && wanted > 1", "if (false && wanted > 1", (THREADS,)),
    Mutant("native/decode.cpp", "sequences that are not one behind the other go by tiles",
           "tiled_heads = place[row] == 0;", "", (PLAN,)),
    Mutant("load/loaded.py", "remember what other weights said", "self._forget()\n        return", "return", (MEMORY,)),
    Mutant("engines/arbiter.py", "any word is right", "if not regret <= REGRET:", "if False:", (OTHERWISE,)),
    Mutant("engines/arbiter.py", "any probability is right", "if not mean <= NEAR:", "if False:", (OTHERWISE,)),
    Mutant("engines/arbiter.py", "others share a cache", "<= set(OURS)", "<= set(ENGINES)",
           (f"{ENGINES}::test_the_least_seconds_of_an_answer_decide",)),
    Mutant("engines/arbiter.py", "an answer is a word", "TYPICAL * word.word", "word.word",
           (f"{ENGINES}::test_the_least_seconds_of_an_answer_decide",)),
    Mutant("engines/remembered.py", "threads do not matter", "here.threads, ", "", (REMEMBERED,)),
    Mutant("engines/remembered.py", "prompts by the plan whatever was found",
           "loaded.engine.prompts = prompts == \"plan\"", "pass",
           (f"{ENGINES}::test_ours_share_the_work_as_remembered",)),
    Mutant("engines/foreign.py", "go on behind the end", "max_new_tokens, self.ends)", "max_new_tokens)",
           (f"{ENGINES}::test_an_answer_ends_where_it_is_told_to",)),
    Mutant("engines/vino.py", "go on with the last prompt", "self.request.reset_state()\n        given", "given",
           (f"{ENGINES}::test_an_engine_says_what_the_artifact_says",)),
    Mutant("engines/process.py", "wait for ever", "self.limit is not None and not _readable", "False and not _readable",
           (f"{ENGINES}::test_a_process_that_ends_or_takes_too_long_says_so",)),
    # of encoders
    Mutant("evaluate/embedding.py", "padding is pooled", "(states * weight).sum(1)", "states.sum(1)", (EMBEDDING,)),
    Mutant("evaluate/embedding.py", "embeddings keep their length",
           "F.normalize((states * weight).sum(1) / weight.sum(1), dim=-1)", "(states * weight).sum(1) / weight.sum(1)",
           (EMBEDDING,)),
    Mutant("evaluate/embedding.py", "products in place of cosines", "F.normalize(x.double(), dim=-1), len",
           "x.double(), len", (EMBEDDING,)),
    Mutant("evaluate/embedding.py", "equal similarities do not share a rank", "(below + upto).double() / 2",
           "upto.double()", (EMBEDDING,)),
    Mutant("evaluate/embedding.py", "ranks are not centred", "rank - rank.mean(1, keepdim=True)", "rank",
           (EMBEDDING,)),
    Mutant("evaluate/bootstrap.py", "one end of both", "(1 - level) / 2, (1 + level) / 2",
           "(1 - level), (1 + level) / 2", (BOOTSTRAP,)),
    Mutant("evaluate/bootstrap.py", "draw half as many", "(resamples, len(values))", "(resamples, len(values) // 2)",
           (BOOTSTRAP,)),
    Mutant("evaluate/bootstrap.py", "the upper percentile", "rows.quantile(share, dim=1)",
           "rows.quantile(1 - share, dim=1)", (BOOTSTRAP,)),
    Mutant("data/sentences.py", "fragments are sentences", "LEAST <= len", "1 <= len", (SENTENCES,)),
    Mutant("data/sentences.py", "code is prose", ">= SHARE * len(one)", ">= 0", (SENTENCES,)),
    Mutant("data/sentences.py", "a sentence said twice counts twice", "list(dict.fromkeys(found))", "found",
           (SENTENCES,)),
    # of figures
    Mutant("measure/rapl.py", "forget that a counter begins anew", "(now - last) % domain.range", "(now - last)",
           (f"{FIGURES}/test_rapl.py",)),
    Mutant("measure/rapl.py", "count the platform too", 'if not name.startswith("package"):', "if not name:",
           (f"{FIGURES}/test_rapl.py",)),
    Mutant("measure/rapl.py", "count every die's view of one counter", "abs(now - read) < SAME", "False",
           (f"{FIGURES}/test_rapl.py",)),
    Mutant("measure/energy.py", "take no baseline off", "by.joules - base * passed", "by.joules",
           (f"{FIGURES}/test_rapl.py",)),
    Mutant("measure/power.py", "rectangles in place of trapezoids", "(watts[i] + watts[i + 1]) / 2", "watts[i]",
           (f"{FIGURES}/test_efficiency.py",)),
    Mutant("measure/power.py", "every core is charged the whole", "tdp / cores", "tdp",
           (f"{FIGURES}/test_energy.py",)),
    Mutant("measure/carbon.py", "let a configuration choose the endpoint", "emissions_endpoint=False,", "",
           (f"{FIGURES}/test_carbon.py",)),
    Mutant("measure/idealized.py", "every token is a further one", "[one.output - 1 for one", "[one.output for one",
           (f"{FIGURES}/test_idealized.py",)),
    Mutant("measure/idealized.py", "keep what contention made slow", "above <= FAR * max(spread, 1e-6)", "above < 1e9",
           (f"{FIGURES}/test_idealized.py",)),
    Mutant("measure/uniform.py", "one accelerator is paid for", "held * serving.price", "seconds * serving.price",
           (f"{FIGURES}/test_uniform.py",)),
    Mutant("measure/efficiency.py", "an equal dominates", "min(gains) >= 0 and max(gains) > 0", "min(gains) >= 0",
           (f"{FIGURES}/test_efficiency.py",)),
    Mutant("measure/efficiency.py", "less throughput is better", '"efficiency.throughput": True',
           '"efficiency.throughput": False', (f"{FIGURES}/test_efficiency.py",)),
    Mutant("measure/layers.py", "count what children did twice", "all_of_it - inside", "all_of_it",
           (f"{FIGURES}/test_layers.py",)),
    Mutant("measure/activations.py", "never let go", "self.now -= size", "self.now -= 0",
           (f"{FIGURES}/test_activations.py",)),
    Mutant("measure/activations.py", "count what was there before", " and _key(one) not in known", "",
           (f"{FIGURES}/test_activations.py",)),
    Mutant("measure/speed.py", "a is always first", "if i % 2 == 0 else", "if True else",
           (f"{FIGURES}/test_speed.py",)),
    Mutant("measure/speed.py", "a beside b", "sorted(after / before", "sorted(before / after",
           (f"{FIGURES}/test_speed.py",)),
    Mutant("measure/inventory.py", "a shared tensor is stored twice", "if identity(tensor) in seen:", "if False:",
           (f"{FIGURES}/test_inventory.py",)),
    Mutant("measure/parts.py", "rows do not matter", "values, rows)", "values, 1)", (f"{FIGURES}/test_parts.py",)),
    # of plans
    Mutant("measure/trace.py", "read every matrix in 16 bits", "trace.forms.get(host.name) or pieces(host)",
           "pieces(host)", (PROSPECT,)),
    Mutant("measure/trace.py", "views move bytes", "if packet not in UNSEEN and not _is_view(func):",
           "if packet not in UNSEEN:", (TRACE,)),
    Mutant("measure/trace.py", "all pairs are seen", "seen = float(attn_mask.double().mean())", "seen = 1.0", (TRACE,)),
    Mutant("measure/work.py", "scales take no room", "width * size + width / group_size",
           "width * size + 0 / group_size", (TRACE,)),
    Mutant("measure/ceilings.py", "straight between sizes", "log(size / low) / log(high / low)",
           "(size - low) / (high - low)", (CEILINGS,)),
    Mutant("measure/ceilings.py", "the longest that was measured is the longest",
           "* max(1.0, size / self.word.sizes[-1])", "* 1.0", (CEILINGS,)),
    Mutant("measure/predict.py", "reading and multiplying never overlap", "max(computing, one.weights / stream)",
           "computing + one.weights / stream", (CEILINGS,)),
    Mutant("measure/predict.py", "tiles cost no reading", "made + computing + one.weights / reading",
           "made + computing", (CEILINGS,)),
    Mutant("measure/predict.py", "a plan has one layer", "layers * known.plan_layer", "known.plan_layer", (CEILINGS,)),
    Mutant("run/prospect.py", "a tied head stays as it was", "for name in pair if changed else ():",
           "for name in pair if False else ():", (PROSPECT,)),
    Mutant("run/prospect.py", "factors stand alone", "[*before, *factors] if more > 0 else list(factors)",
           "list(factors)", (PROSPECT,)),
    Mutant("run/forecast.py", "the first word is said twice", "(how.said - 1) *", "how.said *",
           (f"{FORETOLD}::test_an_evaluation_is_its_batches_and_its_words",)),
    Mutant("run/forecast.py", "every question has its own picture", "* how.shown / size", "",
           (f"{FORETOLD}::test_an_evaluation_is_its_batches_and_its_words",)),
    Mutant("run/fitcost.py", "fits grow as the matrix does", "if second / m**2 <= first / n**2:", "if True:",
           (f"{FORETOLD}::test_fit_costs_solve_to_what_they_were_made_of",)),
    Mutant("run/rehearsal.py", "rehearse always", "return bool(total > LONG)", "return True",
           (f"{FORETOLD}::test_a_rehearsal_is_held_before_a_long_run_alone",)),
    # of searches
    Mutant("run/search/front.py", "points beyond the reference count", "if all(x < r for", "if any(x < r for",
           (FRONT,)),
    Mutant("run/search/front.py", "a slice has the points above it", "ordered[: index + 1]", "ordered[index:]",
           (FRONT,)),
    Mutant("run/search/front.py", "equal points are all on the front", " and point not in points[:index]", "",
           (FRONT,)),
    Mutant("run/search/front.py", "as good is dominated", " and a != b", "", (FRONT,)),
    Mutant("run/search/goals.py", "a cost meets its goal by its value", "found.high / self.limit - 1",
           "found.value / self.limit - 1", (GOALS,)),
    Mutant("run/search/goals.py", "a loss meets its goal by its value", "(outcome.lost.high - self.limit)",
           "(outcome.lost.value - self.limit)", (GOALS,)),
    Mutant("run/search/goals.py", "a goal whose figure was not taken is met", "len(found) == len(given) and all(",
           "all(", (GOALS,)),
    Mutant("run/search/goals.py", "the nearest point misses least of all goals", "goal = max(given,",
           "goal = min(given,",
           (GOALS,)),
    Mutant("run/search/stopping.py", "broken by the value", "if lost.low > most:", "if lost.value > most:", (GOALS,)),
    Mutant("run/search/stopping.py", "a rival is perhaps faster", "theirs[name].high <= values[name].low",
           "theirs[name].value <= values[name].value", (GOALS,)),
    Mutant("run/search/stopping.py", "what is left counts for nothing", "_right(new) + total - n", "_right(new)",
           (GOALS,)),
    Mutant("run/search/final.py", "faster by the value", "ratio.high < 1", "ratio.value < 1", (GOALS,)),
    Mutant("run/search/final.py", "not worse by the value", "lost.high <= self.allowed", "lost.value <= self.allowed",
           (GOALS,)),
    Mutant("run/search/final.py", "one reference is enough", "all(one[\"dominates\"]", "any(one[\"dominates\"]",
           (GOALS,)),
    Mutant("run/search/final.py", "what dominates no reference is read", "count[one.number] == max(count.values())",
           "True", (GOALS,)),
    Mutant("run/search/folds.py", "select by what calibrates", "for one in every} - used", "for one in every}",
           (BENCH,)),
    Mutant("run/search/folds.py", "read the same questions again", "order[reading * most : (reading + 1) * most]",
           "order[:most]", (BENCH,)),
    Mutant("run/search/folds.py", "folds share groups", "free[index::FOLDS]", "free[index:]", (BENCH,)),
    Mutant("run/search/compose.py", "round what is pruned", "return WHOLE if pattern(values, part) != NONE else",
           "return", (SPACE,)),
    Mutant("run/search/compose.py", "the order of targets makes another point", "sorted(step.targets) if",
           "list(step.targets) if", (SPACE,)),
    Mutant("run/search/study.py", "begin what was under way anew", "number = running[0].number if running else",
           "running = []\n        number =", (STUDY,)),
    Mutant("run/search/study.py", "try again what was tried", "key(steps) not in known", "key(steps)", (STUDY,)),
    Mutant("run/search/study.py", "put the starts in twice", "if index not in there:", "if True:", (STUDY,)),
    Mutant("run/search/clock.py", "a new process begins at nothing",
           "sum(row[\"seconds\"] for row in whole_lines(self.path))",
           "0.0", (STUDY,)),
    Mutant("run/search/place.py", "two processes in one folder", "if len(there) == 2 and _alive", "if False and _alive",
           (STUDY,)),
    Mutant("run/search/bench.py", "trim what is trimmed", "        self._put(context, self.original)\n", "", (BENCH,)),
    Mutant("run/search/bench.py", "remember another point's weights", "self.known.get(key(given[:count]).encode())",
           "self.known.get(key(given[:1]).encode())", (BENCH,)),
    Mutant("run/search/trying.py", "stop references too", "if look.n < total and not whole", "if look.n < total",
           (BENCH,)),
    Mutant("run/search/trying.py", "trim what is foreseen to be too large", "if over <= max(0.0, nearest):", "if True:",
           (BENCH,)),
    Mutant("core/tensorfile.py", "a file has no header", "len(_header(tensors, _order(tensors), about)) + held", "held",
           (TENSORFILE,)),
    Mutant("evaluate/ratio.py", "every bound is of 5 %", "if below > alpha * total:", "if below > ALPHA * total:",
           (GOALS,)),
    # report
    Mutant("report/scale.py", "a logarithmic axis is a plain one", "        if self.log:\n            low, high, shown",
           "        if False:\n            low, high, shown", (CHARTS,)),
    Mutant("report/live.py", "names of strangers are markup to plotly", "    return html.escape(text, quote=False)\n",
           "    return text\n", (CHARTS,)),
    Mutant("report/live.py", "an interval is as long below as above",
           "down = [(value - spread[0]) / factor if spread", "down = [(spread[1] - value) / factor if spread",
           (CHARTS,)),
    Mutant("report/still.py", "stacked bars all begin at 0",
           "start = tops.get(place, 0.0) if sheet.chart.stacked else 0.0", "start = 0.0", (CHARTS,)),
    Mutant("report/page.py", "the data of plots may end their block", 'text.replace("<", "\\\\u003c")', "text",
           (CHARTS,)),
    Mutant("report/plots/predicted.py", "the error is of the prediction over the measurement",
           "ratio = self.measured / self.predicted", "ratio = self.predicted / self.measured", (PREDICTED,)),
    Mutant("report/plots/predicted.py", "an interval has no upper end",
           "self.ends[0] <= self.measured <= self.ends[1]", "self.ends[0] <= self.measured", (PREDICTED,)),
    Mutant("report/plots/predicted.py", "the mean error in place of the median", "{100 * median(sizes):.1f}",
           "{100 * sum(sizes) / len(sizes):.1f}", (PREDICTED,)),
    Mutant("report/plots/roofline.py", "equal work counts once", "seconds=old.seconds + one.seconds",
           "seconds=one.seconds", (PREDICTED,)),
    Mutant("report/plots/roofline.py", "a slope that is none", "Point(x, x * speed,", "Point(x, speed,", (PREDICTED,)),
    Mutant("report/several.py", "other units compare", "if unit != unit_of(one.unit):", "if False:", (COMPARE,)),
    Mutant("report/several.py", "other data compare", "if known != digest:", "if False:", (COMPARE,)),
    Mutant("report/several.py", "machines that are not known are one",
           "return bool(hardware(first)) and hardware(first)", "return hardware(first)", (COMPARE,)),
    Mutant("report/compare.py", "a ratio of times of two machines", '!= "lower" or elsewhere or', '!= "lower" or',
           (COMPARE,)),
    Mutant("report/differences.py", "lost is gained", "(-end + 0.0 for end in (lost.value, lost.high, lost.low))",
           "(end + 0.0 for end in (lost.value, lost.low, lost.high))", (COMPARE,)),
    Mutant("report/differences.py", "answers are paired by their place",
           "Prediction(name, \"\", side[name], float(side[name])) for name in both]",
           "Prediction(name, \"\", right, float(right)) for name, right in zip(both, side.values())]", (COMPARE,)),
    Mutant("report/search.py", "large is small", 'return one < other if self.goal == "min"',
           'return one < other if self.goal == "max"', (PARETO,)),
    Mutant("report/search.py", "trials that were stopped are on the front", 'if one.state == "complete" and x.name',
           "if x.name", (PARETO,)),
    Mutant("report/plain.py", "what is not finite stands in JSON",
           "return None if isinstance(value, float) and not math.isfinite(value) else value", "return value", (TWINS,)),
    Mutant("report/write.py", "the card may hold what was asked for", "build(safe) if with_samples else view", "view",
           (TWINS,)),
    Mutant("report/card.py", "a card is written wherever a result points", ').name\n    if not', ')\n    if not',
           (TWINS,)),
    # deployments
    Mutant("serve/deploy/exported.py", "zeros in GPTQ's layout are taken", 'not about.get("sym", True)',
           'not about.get("symmetric", True)', (f"{VLLM}::test_codes_without_a_kernel_are_refused",)),
    Mutant("serve/deploy/exported.py", "codes of 2 bits are taken", "get(method, (4, 8))", "get(method, (2, 4, 8))",
           (f"{VLLM}::test_codes_without_a_kernel_are_refused",)),
    Mutant("serve/deploy/exported.py", "policies are forgotten", '" --without-policies" if said.policies else ""', '""',
           (f"{VLLM}::test_an_artifact_of_ours_gets_the_command_that_exports_it",)),
    Mutant("serve/deploy/exported.py", "rounded inputs count as kept", 'if not one.get("input_activations")}',
           'if one.get("input_activations") != 0}', (f"{VLLM}::test_what_fails_on_cpus_is_refused_there_alone",)),
    Mutant("serve/deploy/vllm.py", "a group may be cut", "inner % (count * step) == 0", "inner % count == 0",
           (f"{VLLM}::test_matrices_are_shared_only_where_heads_and_groups_come_out_even",)),
    Mutant("serve/deploy/vllm.py", "keys and values may be cut anyhow", "return shared and heads", "return heads",
           (f"{VLLM}::test_matrices_are_shared_only_where_heads_and_groups_come_out_even",)),
    Mutant("serve/deploy/vllm.py", "twice the model's length", "asked > most:", "asked > 2 * most:",
           (f"{VLLM}::test_wishes_that_cannot_be_met_say_what_can",)),
    Mutant("serve/deploy/vllm.py", "words as they stand", "[shlex.quote(word) for word in self.arguments]",
           "[*self.arguments]", (f"{VLLM}::test_the_shell_takes_the_script_apart_as_it_was_put_together",)),
    Mutant("serve/deploy/vllm.py", "pages of all origins may ask", '"--allowed-origins": "[]"',
           '"--allowed-origins": "*"', (f"{VLLM}::test_every_option_is_the_folders_or_the_users",)),
    Mutant("serve/deploy/rayconfig.py", "one core for every replica", "wanted.cpus or said.threads", "wanted.cpus or 1",
           (f"{RAY}::test_a_replica_has_the_artifacts_threads_and_as_many_requests_as_its_queue",)),
    Mutant("serve/deploy/rayconfig.py", "what runs has no place", "self.waiting + self.rows", "self.waiting",
           (f"{RAY}::test_a_replica_has_the_artifacts_threads_and_as_many_requests_as_its_queue",)),
    Mutant("serve/openapi.py", "no token where one is needed", '({"security": []} if path in OPEN else {})',
           '{"security": []}', (f"{DESCRIBED}::test_only_what_holds_nothing_of_the_user_needs_no_token",)),
    # the server
    Mutant("serve/words.py", "show broken characters", "now.endswith(BROKEN) or len(now) <=", "len(now) <=", (SAID,)),
    Mutant("serve/words.py", "hold no beginning of a stop",
           "keep = max((_begun(text, stop) for stop in self.stops), default=0)", "keep = 0", (SAID,)),
    Mutant("serve/drawing.py", "presence counts", "count * wish.frequency + wish.presence",
           "count * (wish.frequency + wish.presence)", (SAID,)),
    Mutant("serve/drawing.py", "top_p leaves one out", "values.cumsum(0) - values >=", "values.cumsum(0) >=", (SAID,)),
    Mutant("serve/drawing.py", "no rules of the model", "if self.rules:", "if self.rules and self.said is None:",
           (f"{SERVED}_law.py::test_the_models_own_rules_hold",)),
    Mutant("serve/answer.py", "words of a stop are told",
           "[one for one in self._waiting if one.at < self._length or (finish and not self._stopping.found)]",
           "list(self._waiting)",
           (f"{SERVED}_openai.py::test_it_stops_before_a_stop_sequence_and_never_shows_a_part_of_it",)),
    Mutant("serve/answer.py", "how likely the word before was", "first = len(self._waiting)",
           "first = len(self._waiting) - 1",
           (f"{SERVED}_scoring.py::test_a_prompts_words_are_as_likely_as_the_model_says",)),
    Mutant("serve/gathered.py", "fill up on the right", "F.pad(part, (width - part.shape[1], 0), value=fill)",
           "F.pad(part, (0, width - part.shape[1]), value=fill)", (TOGETHER,)),
    Mutant("serve/gathered.py", "leave as they came", "slots.following[index]", "slots.following[: len(index)]",
           (TOGETHER,)),
    Mutant("serve/rows.py", "bfloat16 rows share products", "model.cached or model.dtype != torch.float32",
           "model.cached", (TOGETHER,)),
    Mutant("serve/schedule.py", "read on for who left", "        if job.left:\n            return\n", "",
           (f"{SERVED}_queue.py::test_a_client_that_leaves_before_any_answer_frees_its_place",)),
    Mutant("serve/remote.py", "one public address is enough", "not all(map(public, found))",
           "not any(map(public, found))", (f"{PICTURES}_other_addresses_are_never_asked",)),
    Mutant("serve/remote.py", "ask for the address again", "self._socket(parts, address, port, end)",
           "self._socket(parts, self._address(parts.hostname, port), port, end)",
           (f"{PICTURES}_a_public_picture_is_fetched_from_the_address_that_was_checked",)),
    Mutant("serve/remote.py", "mapped addresses are the internet's", "[found.ipv4_mapped, found.sixtofour,",
           "[found.sixtofour,", (f"{PICTURES}_addresses_that_are_not_the_internets",)),
    Mutant("serve/guard.py", "any token", "not hmac.compare_digest(_digest(given.strip()), self.key)", "not given",
           (f"{SERVED}_guard.py::test_without_the_token_nothing_is_told",)),
    Mutant("serve/guard.py", "believe what a body says of its length", "self.total += size", "self.total += 0",
           (f"{SERVED}_guard.py::test_a_body_is_counted_as_it_comes",)),
    Mutant("serve/guard.py", "any host", "if self.loopback and", "if self.loopback is None and",
           (f"{SERVED}_guard.py::test_on_loopback_other_names_are_refused",)),
)  # fmt: skip
COVERED = ("core/blocks.py", "core/codebook.py", "core/scales.py", "quantize/levels.py",
           "core/hessian.py", "core/pack.py", "core/weight.py", "core/linear.py", "core/stats.py", "core/keep.py",
           "core/joins.py", "core/factors.py", "core/firstcalls.py", "core/look.py", "core/evict.py", "core/slot.py",
           "cache/codes.py", "anatomy/masks.py", "anatomy/loop.py", "anatomy/slots.py", "adapt/peft.py", "run/tune.py",
           "core/products.py", "core/triangular.py", "core/finite.py", "core/norm.py", "core/gated.py", "core/probe.py",
           "core/onepass.py", "native/norm.cpp", "native/gated.cpp", "native/curves.h", "native/portable.h",
           "native/threads.h", "native/sweep.cpp", "native/sizes.cpp",
           "native/moment.cpp", "core/place.py", "core/stored.py", "core/tensorfile.py", "load/stream.py",
           "run/gather.py", "run/lanes.py",
           "runtime/compose.py", "runtime/kernels.py", "runtime/held.py")  # fmt: skip
PLANNED = ("layout", "verify", "angles", "build", "greedy", "engine", "prefix", "prompt")
COMPILED = ("core/bounded.py", "core/plain.py", "runtime/mlp.py", "runtime/bidirectional.py", "anatomy/attention.py",
             "anatomy/recall.py", "load/loaded.py", "engines/remembered.py", "engines/arbiter.py",
            "engines/foreign.py", "engines/vino.py", "core/norm.py", "core/gated.py", "core/probe.py",
            "core/onepass.py", "runtime/arena.py", "runtime/release.py", "runtime/place.py",
            *(f"runtime/plan/{name}.py" for name in PLANNED))  # fmt: skip
"""What does nothing without the compiled library."""


def misfits(mutants: tuple[Mutant, ...] = MUTANTS) -> list[str]:
    """What no longer applies: text that is not there exactly once, and files or methods without a mutant."""
    from trimtab import methods

    texts = {m.file: (ROOT / "src" / "trimtab" / m.file).read_text(encoding="utf-8") for m in mutants}
    wrong = [f"{m.file}: {m.what}: {texts[m.file].count(m.old)} times: {m.old!r}" for m in mutants
             if texts[m.file].count(m.old) != 1]  # fmt: skip
    places = (place.partition(":")[0] for _, place in methods.names(controls=True).values())
    wanted = {*COVERED, *(place.removeprefix("trimtab.").replace(".", "/") + ".py" for place in places)}
    return wrong + [f"{file}: no mutant" for file in sorted(wanted - {m.file for m in MUTANTS})]


def pytest_on(copy: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """The tests against ``copy``/src, up to the first failure. The working tree's tests are read, not its sources."""
    code = "import sys, pathlib, trimtab; sys.exit(not pathlib.Path(trimtab.__file__).is_relative_to(sys.argv[1]))"
    env = os.environ | {"PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code, str(copy)], env=env, cwd=ROOT, check=True)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", *tests]
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)


def caught(mutant: Mutant) -> str | None:
    """The test that fails under ``mutant``; None where none does. Raises RuntimeError where the tests do not run."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / "src" / "trimtab", copy / "src" / "trimtab",
                        ignore=shutil.ignore_patterns("__pycache__", "*.safetensors", "*.so"))  # fmt: skip
        file = copy / "src" / "trimtab" / mutant.file
        file.write_text(file.read_text(encoding="utf-8").replace(mutant.old, mutant.new), encoding="utf-8")
        if (
            file.suffix in (".cpp", ".h") or mutant.file in COMPILED or mutant.tests == (KEEPS_ALL,)
        ):  # elsewhere the forms in torch run, which the mutants break
            flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-pthread", "-Wno-psabi"]
            if not amx():  # where pairs of bfloat16 are multiplied in vectors, tiles in plain C++ stand for AMX
                flags += ["-include", str(ROOT / "tests" / "native" / "tiles.h")]
            place = copy / "src" / "trimtab" / "native"
            sources = map(str, place.glob("*.cpp"))
            subprocess.run(["c++", *flags, *sources, "-o", str(place / "trimtab_native.so")], check=True)
        done = pytest_on(copy, mutant.tests)
    if done.returncode == 0:
        return None
    found = re.search(r"^FAILED (\S+?::\w+)", done.stdout, re.MULTILINE)
    if done.returncode != 1 or found is None:
        raise RuntimeError(
            f"{mutant.file}: {mutant.what}: the tests did not run:\n{done.stdout[-2000:]}{done.stderr[-500:]}"
        )
    return found[1]


def keep(found: dict[Mutant, str | None]) -> None:
    """Write the table anew: what was found now, and the rows of before for mutants that were not asked for."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()[1:] if TABLE.is_file() else []
    before = {(file, what): test for file, what, test in (line.split("\t") for line in lines)}
    now = before | {(m.file, m.what): test or "SURVIVED" for m, test in found.items()}
    rows = [f"{m.file}\t{m.what}\t{now[m.file, m.what]}" for m in MUTANTS if (m.file, m.what) in now]
    part = TABLE.with_suffix(".part")
    part.write_text("\n".join(["file\tmutation\ttest that failed", *rows]) + "\n", encoding="utf-8")
    part.replace(TABLE)


def report(mutant: Mutant) -> str | None:
    found = caught(mutant)
    print(f"{mutant.file}: {mutant.what}: {found or 'SURVIVED'}", flush=True)
    return found


def main() -> int:
    """0 when every mutant was caught, 1 when one survived, 2 when one does not apply or the tests fail anyway."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="part of a file or description")
    only = parser.parse_args().only
    chosen = tuple(m for m in MUTANTS if any(text in m.file or text in m.what for text in only))
    wrong = misfits(chosen)
    if wrong or not chosen:
        print("\n".join(wrong or [f"no mutant has {only!r}"]), file=sys.stderr)
        return 2
    with ThreadPoolExecutor(AT_ONCE) as pool:
        healthy = pytest_on(ROOT, tuple(sorted({test for m in chosen for test in m.tests})))
        if healthy.returncode:
            print(f"the tests fail without a mutant:\n{healthy.stdout[-3000:]}", file=sys.stderr)
            return 2
        tests = list(pool.map(report, chosen))
    keep(dict(zip(chosen, tests, strict=True)))
    print(f"{sum(test is not None for test in tests)} of {len(tests)} mutants were caught")
    return int(None in tests)


if __name__ == "__main__":
    raise SystemExit(main())
