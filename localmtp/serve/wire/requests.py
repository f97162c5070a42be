"""The bodies of requests, as pydantic checks them.

Field names and ranges are those of the OpenAI API reference; `top_k`, `min_p`, `n_draft` and
`chat_template_kwargs` are extensions that other local servers have too, or `localmtp run`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from localmtp.limits import MAX_DRAFT

_INT64 = 2**63
MOST_CHOICES = 16
"""Answers to one request."""


def _encodable(text: str) -> str:
    """Refuse half a surrogate pair: JSON can say it, UTF-8 cannot."""
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("the text is not valid Unicode")
    return text


Text = Annotated[str, AfterValidator(_encodable)]
StopText = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_encodable)]
TokenId = Annotated[int, Field(ge=0)]
Tokens = Annotated[list[TokenId], Field(min_length=1)]


class _Body(BaseModel):
    """Unknown fields are refused: silently doing without one would be a wrong answer."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(_Body):
    """What a stream carries besides text."""

    include_usage: bool = False
    include_obfuscation: bool = False
    """Accepted without effect."""


class _Generation(_Body):
    """What both kinds of completion have in common."""

    model: str | None = None
    """None: the one that is served."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(None, ge=1, le=MOST_CHOICES)
    max_tokens: int | None = Field(None, ge=1, le=_INT64 - 1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0, le=_INT64 - 1)
    """0: no limit."""
    min_p: float | None = Field(None, ge=0, le=1)
    seed: int | None = Field(None, ge=-_INT64, le=_INT64 - 1)
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] | None = None
    n_draft: Literal["auto"] | Annotated[int, Field(ge=0, le=MAX_DRAFT)] | None = None
    """Tokens to draft per pass; 0: no drafting."""
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    user: Any = None
    """Accepted without effect, as are those below: they change no answer."""
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None

    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def unsupported(self) -> str | None:
        """The first field whose value would change the answer in a way that is not offered."""
        fields = ("frequency_penalty", "presence_penalty", "logit_bias")
        return next((name for name in fields if getattr(self, name)), None)


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class Part(BaseModel):
    """A piece of a message's content; only text is understood."""

    type: str
    text: Text | None = None


class _Lenient(BaseModel):
    """Fields that only answers carry (refusal, annotations) come back in histories."""

    model_config = ConfigDict(strict=True)


class CalledFunction(_Lenient):
    """A function's name, and its arguments as JSON in a string."""

    name: Name
    arguments: Text = "{}"


class ToolCall(_Lenient):
    """A call that the model made earlier."""

    id: Text
    function: CalledFunction


class Message(_Lenient):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[Part] | None = None
    reasoning_content: Text | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: Text | None = None


class Function(_Body):
    """A function that the model may call."""

    name: Name
    description: Text = ""
    parameters: dict[str, Any] | None = None
    """A JSON schema."""
    strict: bool | None = None
    """Accepted without effect."""


class Tool(_Body):
    """The only kind of tool there is."""

    type: Literal["function"]
    function: Function


class ChosenFunction(_Body):
    """The function that is to be called."""

    name: Name


class ToolChoice(_Body):
    """A call that is wanted."""

    type: Literal["function"]
    function: ChosenFunction


class TemplateOptions(_Body):
    """Variables of the chat template."""

    enable_thinking: bool | None = None


class JsonSchema(_Body):
    """What a JSON answer must look like."""

    name: Text = ""
    """Accepted without effect, as are the two below."""
    description: Text | None = None
    strict: bool | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")


class ResponseFormat(_Body):
    """Free text, any JSON object, or JSON that a schema allows."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatRequest(_Generation):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: int | None = Field(None, ge=1, le=_INT64 - 1)
    """The newer name of `max_tokens`."""
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
    """Gemma 4 knows two: `none` answers at once, all others let the model think first."""
    chat_template_kwargs: TemplateOptions | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    """Accepted without effect: the model decides."""


class CompletionRequest(_Generation):
    """`POST /v1/completions`."""

    prompt: (
        Text
        | Tokens
        | Annotated[list[Text] | list[Tokens], Field(min_length=1, max_length=MOST_CHOICES)]
    )
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool | None = None
