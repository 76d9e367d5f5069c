"""A model with token and cache policies, called and generating like the library's: its forward is our loop.

``generate`` (greedy or sampled) hands over masks and positions of the whole sequence; they are right, because tokens
that stay keep their positions, and for decoding the slots' own are trusted. Logits have the original length, NaN at
dropped positions; the last one is never dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin
from transformers.generation import GenerationMode
from transformers.modeling_outputs import CausalLMOutputWithPast

from trimtab.anatomy.base import Anatomy, Batch
from trimtab.anatomy.loop import Policies, of_cache, prefill, step
from trimtab.anatomy.slots import Slots
from trimtab.core.errors import BadInput, Refused

MODES = (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE)


class Trimmed(nn.Module, GenerationMixin):
    """``anatomy.model`` with ``policies``; its parameters and configuration are that model's."""

    main_input_name = "input_ids"
    base_model_prefix = ""
    input_modalities = ("image", "text")
    _is_stateful = False

    def __init__(self, anatomy: Anatomy, policies: Policies = ()) -> None:
        super().__init__()
        self.anatomy, self.policies = anatomy, tuple(policies)
        self.model = anatomy.model
        self.config, self.generation_config = anatomy.model.config, anatomy.model.generation_config

    def over(self, anatomy: Anatomy) -> Trimmed:
        """The same over another view of the same model."""
        return type(self)(anatomy, self.policies)

    @property
    def cached(self) -> bool:
        """Whether what it says depends on how it came there: a cache policy acts between tokens, and a text read at
        once does not show it."""
        return bool(of_cache(self.anatomy, self.policies))

    @property
    def device(self) -> torch.device:
        return torch.device(self.anatomy.model.device)

    @property
    def dtype(self) -> torch.dtype:
        found: torch.dtype = self.anatomy.model.dtype
        return found

    def can_generate(self) -> bool:
        return True

    def is_remote_code(self) -> bool:
        return False

    def get_experts_implementation(self) -> Any:
        return self.anatomy.model.get_experts_implementation()

    def set_experts_implementation(self, *args: Any, **kwargs: Any) -> None:
        self.anatomy.model.set_experts_implementation(*args, **kwargs)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        past_key_values: Slots | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        return_dict: bool | None = True,
        **others: Any,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """As the library's forward. Raises BadInput for arguments that the loop does not take, and for a cache that
        is not its own; Refused for new pictures in a conversation that goes on."""
        shown = {name: others.pop(name) for name in self.anatomy.INPUTS if others.get(name) is not None}
        if pixel_values is not None:
            shown["pixel_values"] = pixel_values
        _refuse_others(others, self.anatomy.INPUTS)
        if input_ids is None:
            raise BadInput("input_ids: got None; accepted: token ids (inputs_embeds hide which ones are image tokens)")
        if not isinstance(logits_to_keep, int):
            raise BadInput(
                f"logits_to_keep: got a {type(logits_to_keep).__name__}; accepted: how many of the last tokens"
            )
        slots = _own(past_key_values)
        if slots is None and (self.config.get_text_config().use_cache if use_cache is None else use_cache):
            slots = self.empty_cache()
        if slots is not None and slots.length:
            _refuse_pictures(self.anatomy.INPUTS[:1], shown)
            valid = None if attention_mask is None else attention_mask[:, -input_ids.shape[1] :].bool()
            logits = self.later(input_ids, slots, valid, logits_to_keep)
        else:
            given = {
                "input_ids": input_ids,
                "attention_mask": attention_mask,
                "position_ids": position_ids,
                **shown,
            }
            batch = {name: value for name, value in given.items() if value is not None}
            logits = self.prompt(batch, slots, logits_to_keep)
        answer = CausalLMOutputWithPast(logits=logits, past_key_values=slots)
        return answer if return_dict in (True, None) else answer.to_tuple()

    def empty_cache(self) -> Slots:
        """What a prompt fills."""
        return Slots()

    def later(self, ids: Tensor, slots: Slots, valid: Tensor | None, logits_to_keep: int) -> Tensor:
        """Logits of the words behind a prompt."""
        found: Tensor = step(self.anatomy, ids, slots, valid, logits_to_keep=logits_to_keep).logits
        return found

    def prompt(self, batch: Batch, slots: Slots | None, logits_to_keep: int) -> Tensor:
        """Logits of a batch of prompts, ``slots`` filled."""
        found: Tensor = prefill(self.anatomy, batch, self.policies, slots, logits_to_keep=logits_to_keep).logits
        return found

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Greedy or sampled. Raises Refused, by its name, for any other way to decode."""
        given: GenerationConfig | None = kwargs.get("generation_config", args[1] if len(args) > 1 else None)
        plain = {k: v for k, v in kwargs.items() if k not in ("generation_config", "assistant_model")}
        config: GenerationConfig = GenerationMixin._prepare_generation_config(self, given, **plain)[0]
        mode, cache = config.get_generation_mode(kwargs.get("assistant_model")), config.cache_implementation
        if mode not in MODES:
            raise Refused(f"generate: got {mode.value}; accepted with token policies: greedy_search, sample")
        if self.policies and config.use_cache is False:
            raise Refused("use_cache: got False; accepted with token policies: True (what goes is decided once)")
        if cache not in (None, "dynamic"):
            raise Refused(f"cache_implementation: got {cache!r}; accepted with token policies: None")
        if kwargs.get("custom_generate") is not None:
            raise Refused("custom_generate: got another decoding loop; accepted with token policies: None")
        return GenerationMixin.generate(self, *args, **kwargs)

    def init_continuous_batching(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise Refused("generate_batch: continuous batching does not know token policies; use generate()")

    def _validate_model_kwargs(self, model_kwargs: dict[str, Any]) -> None:
        GenerationMixin._validate_model_kwargs(
            self, {name: value for name, value in model_kwargs.items() if name not in self.anatomy.INPUTS}
        )

    def _prepare_cache_for_generation(
        self, generation_config: GenerationConfig, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        if model_kwargs.get("past_key_values") is None and generation_config.use_cache is not False:
            model_kwargs["past_key_values"] = self.empty_cache()

    def _update_model_kwargs_for_generation(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What belongs to a new token (its mask, position and type) is for the library's own class to say."""
        found: dict[str, Any] = self.anatomy.model._update_model_kwargs_for_generation(*args, **kwargs)
        return found

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor, dict[str, Any]]:
        """Each row ``expand_size`` times, and with every copy all of the row's pictures, in their order."""
        whole = [name for name in self.anatomy.INPUTS if name not in self.anatomy.ROWS and kwargs.get(name) is not None]
        shown = {name: kwargs.pop(name) for name in whole}
        if expand_size > 1 and shown and input_ids is not None:
            shown = self.anatomy.copies(input_ids, shown, expand_size)
        input_ids, kwargs = GenerationMixin._expand_inputs_for_generation(
            self, expand_size, is_encoder_decoder, input_ids, **kwargs
        )
        return input_ids, kwargs | shown


def _own(cache: object) -> Slots | None:
    if cache is not None and not isinstance(cache, Slots):
        raise BadInput(
            f"past_key_values: got a {type(cache).__name__}; accepted: None, or what an earlier call of this model "
            "returned (another cache does not say which tokens were dropped)"
        )
    return cache


def _refuse_pictures(names: Sequence[str], shown: dict[str, Any]) -> None:
    if any(name in shown for name in ("pixel_values", *names)):
        raise Refused(
            "pixel_values: got pictures with a cache that is not empty; accepted: the whole prompt with all its "
            "pictures, and no cache"
        )


def _refuse_others(others: dict[str, Any], inputs: Sequence[str]) -> None:
    asked = sorted(name for name, value in others.items() if value is not None and value is not False)
    if asked:
        raise BadInput(
            f"forward: got {', '.join(asked)}; accepted with token policies: input_ids, attention_mask, position_ids, "
            f"{''.join(f'{name}, ' for name in inputs)}past_key_values, use_cache, logits_to_keep, return_dict"
        )
