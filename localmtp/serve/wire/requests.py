"""Request bodies, validated by pydantic.

Field names and ranges follow the OpenAI API reference; `top_k`, `min_p` and `chat_template_kwargs`
are extensions that other local servers share, `n_draft` is our own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from localmtp.limits import MAX_DRAFT
from localmtp.serve.errors import APIError
from localmtp.unicode import replace_surrogates

_INT64 = 2**63
_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "typical_p": (1,),
    "tfs_z": (1,),
    "top_a": (0,),
    "mirostat": (0,),
    "dynatemp_range": (0,),
    "xtc_probability": (0,),
    "min_tokens": (0,),
    "best_of": (1,),
    "length_penalty": (1,),
    "use_beam_search": (False,),
    "ignore_eos": (False,),
    "echo": (False,),
    "suffix": ("",),
    "skip_special_tokens": (True,),
    "include_stop_str_in_output": (False,),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
    "functions": ([],),
    "function_call": ("auto", "none"),
    "reasoning_budget_message": ("",),
    "n_probs": (0,),
    "grammar": ("",),
    "json_schema": ({},),
}
"""Fields that are not supported, with the values that ask for nothing; so does null."""
_IGNORED = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "verbosity", "prediction"}
    | {"prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "cache_prompt"}
    | {"timings_per_token", "return_progress", "return_tokens", "id_slot", "keep_alive", "priority"}
    | {"request_id", "spaces_between_special_tokens", "samplers", "repeat_last_n", "n_keep"}
    | {"mirostat_tau", "mirostat_eta", "xtc_threshold", "dynatemp_exponent", "post_sampling_probs"}
    | {"min_keep", "t_max_predict_ms", "t_max_prompt_ms", "provider", "usage", "include"}
    | {"reasoning_format", "thinking_forced_open", "parse_tool_calls", "include_reasoning"}
)
"""Fields that do not change the answer."""
_ALIASES: Mapping[str, str] = dict.fromkeys(
    ("reasoning_budget", "reasoning_budget_tokens", "thinking_budget", "thinking_token_budget"),
    "thinking_budget_tokens",
)
"""Names that other servers use, by the name here."""
_EFFORT_TOKENS = {"none": 0, "minimal": 256, "low": 1024, "medium": 4096, "high": 16384}
"""Thinking budgets by `reasoning_effort`; higher values have no limit."""
MOST_CHOICES = 16
"""Maximum number of choices per prompt, and of prompts per request."""


def _encodable(text: str) -> str:
    """Reject lone surrogates, which JSON can represent and UTF-8 cannot."""
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("the text is not valid Unicode")
    return text


def _encodable_json(value: Any) -> Any:
    """Replace lone surrogates at any depth: objects of requests reach prompts and grammars."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value if text.isascii() else json.loads(replace_surrogates(text))


Text = Annotated[str, AfterValidator(_encodable)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_encodable_json)]
JsonList = Annotated[list[Any], AfterValidator(_encodable_json)]
StopText = Annotated[str, Field(max_length=256), AfterValidator(_encodable)]
TokenLimit = Annotated[Literal[-1] | Annotated[int, Field(ge=1, le=_INT64 - 1)], Field()]
"""-1: no limit."""
TokenId = Annotated[int, Field(ge=0)]
Tokens = Annotated[list[TokenId], Field(min_length=1)]


class _Body(BaseModel):
    """Rejects unknown fields: ignoring one silently could change the answer."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(_Body):
    """Options of a stream."""

    include_usage: bool = False
    include_obfuscation: bool = False
    """Ignored, like the field below."""
    continuous_usage_stats: bool = False


class _SharedFields(_Body):
    """Fields of chats and completions."""

    model: str | None = None
    """None: the served model."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(None, ge=1, le=MOST_CHOICES)
    max_tokens: TokenLimit | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=-1, le=_INT64 - 1)
    """0 or -1: no limit."""
    min_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    repeat_penalty: float | None = Field(None, gt=0, le=10)
    """llama.cpp's name of the field above."""
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    dry_multiplier: float | None = Field(None, ge=0, le=100)
    dry_base: float | None = Field(None, ge=1, le=100)
    dry_allowed_length: int | None = Field(None, ge=1, le=_INT64 - 1)
    dry_penalty_last_n: int | None = Field(None, ge=-1, le=_INT64 - 1)
    dry_sequence_breakers: Annotated[list[StopText], Field(max_length=64)] | None = None
    on_repeat: Literal["auto", "stop", "dry", "off"] | None = None
    """Behaviour when the answer repeats itself."""
    seed: int | None = Field(None, ge=-_INT64, le=_INT64 - 1)
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] | None = None
    """Empty strings are ignored."""
    n_draft: Literal["auto"] | Annotated[int, Field(ge=0, le=MAX_DRAFT)] | None = None
    """Tokens to draft per pass; 0: no drafting."""

    @model_validator(mode="before")
    @classmethod
    def _drop_neutral(cls, data: Any) -> Any:
        """Drop fields that do not change the answer.

        Raises:
            APIError: a field would change the answer and is not supported.
        """
        if not isinstance(data, dict):
            return data
        remaining = {}
        for given, value in data.items():
            name = _ALIASES.get(given, given)
            if name in cls.model_fields:
                remaining[name] = value
            elif name in _NEUTRAL and value is not None and value not in _NEUTRAL[name]:
                raise APIError(400, f"{name} is not supported", param=name)
            elif name not in _NEUTRAL and name not in _IGNORED and value is not None:
                remaining[name] = value  # unknown: rejected by pydantic
        return remaining

    def stops(self) -> tuple[str, ...]:
        """Stop strings as a tuple."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or ()
        return tuple(stop for stop in stops if stop)

    def limit(self) -> int | None:
        """Maximum number of tokens; None for no limit."""
        return None if self.max_tokens in (None, -1) else self.max_tokens


Name = Annotated[str, Field(pattern=r"^[\w.:/-]{1,128}$")]


class MediaAddress(BaseModel):
    """Where an image or a sound is; `detail` and other fields have no effect."""

    url: str


class EncodedSound(BaseModel):
    """A sound in base64."""

    data: str
    format: str | None = None
    """Ignored: the bytes tell."""


class ContentPart(BaseModel):
    """Part of a message's content: text, an image or a sound."""

    type: str
    text: Text | None = None
    refusal: Text | None = None
    image_url: MediaAddress | str | None = None
    audio_url: MediaAddress | str | None = None
    """vLLM's form of `input_audio`."""
    input_audio: EncodedSound | None = None


class _Lenient(BaseModel):
    """Ignores unknown fields: histories contain fields of responses (refusal, annotations)."""

    model_config = ConfigDict(strict=True)


class CalledFunction(_Lenient):
    """Function name, and arguments as a JSON string."""

    name: Text
    arguments: Text | JsonObject | JsonList | None = None


class PastCall(_Lenient):
    """An earlier call by the model."""

    id: Text | None = None
    function: CalledFunction


class ChatMessage(_Lenient):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | list[Text | ContentPart] | None = None
    name: Text | None = None
    reasoning_content: Text | None = None
    reasoning: Text | None = None
    """Another name of `reasoning_content`."""
    tool_calls: list[PastCall] | None = None
    function_call: CalledFunction | None = None
    """Deprecated form of `tool_calls`."""
    tool_call_id: Text | None = None


class FunctionTool(_Lenient):
    """A function that the model may call."""

    name: Name
    description: Text | None = None
    parameters: JsonObject | None = None
    """A JSON schema."""
    strict: bool | None = Field(None, exclude=True)
    """Constrain the arguments to the schema."""


class Tool(_Lenient):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: FunctionTool


class ChosenFunction(_Body):
    """Name of the function to call."""

    name: Name


class ToolChoice(_Body):
    """Forces a call of one function."""

    type: Literal["function"]
    function: ChosenFunction


class TemplateOptions(_Lenient):
    """Variables of the chat template; others are ignored."""

    enable_thinking: bool | None = None
    thinking_budget: int | None = Field(None, ge=-1, le=_INT64 - 1)


class JsonSchema(_Body):
    """Schema of the answer."""

    name: Text = ""
    """Ignored, like the two fields below."""
    description: Text | None = None
    strict: bool | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")


class ResponseFormat(_Body):
    """Free text, any JSON object, or JSON that matches a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatRequest(_SharedFields):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: TokenLimit | None = None
    """The newer name of `max_tokens`."""
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
    """`none` disables thinking; all other values enable it, within a budget."""
    thinking_budget_tokens: int | None = Field(None, ge=-1, le=_INT64 - 1)
    """Maximum tokens of thoughts; -1: no limit, 0: do not think."""
    continue_final_message: bool = False
    """Continue the last message, which is the assistant's."""
    add_generation_prompt: bool = True
    """False only with the field above."""
    chat_template_kwargs: TemplateOptions | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    """False: at most one call."""

    def thinks(self) -> bool | None:
        """Whether to think; None if the request does not say."""
        options = self.chat_template_kwargs
        if self.think_budget() == 0:
            return False
        if options and options.enable_thinking is not None:
            return options.enable_thinking
        return None if self.reasoning_effort is None else True

    def think_budget(self) -> int | None:
        """Maximum tokens of thoughts; -1 for no limit, None if the request does not say."""
        options = self.chat_template_kwargs
        if self.thinking_budget_tokens is not None:
            return self.thinking_budget_tokens
        if options and options.thinking_budget is not None:
            return options.thinking_budget
        if self.reasoning_effort is None:
            return None
        return _EFFORT_TOKENS.get(self.reasoning_effort, -1)

    def limit(self) -> int | None:
        """Maximum number of tokens; None for no limit."""
        limit = self.max_completion_tokens
        return super().limit() if limit is None else (None if limit == -1 else limit)


class CompletionRequest(_SharedFields):
    """`POST /v1/completions`."""

    prompt: (
        Text
        | Tokens
        | Annotated[list[Text] | list[Tokens], Field(min_length=1, max_length=MOST_CHOICES)]
    )
    logprobs: int | None = Field(None, ge=0, le=20)
