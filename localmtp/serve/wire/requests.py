"""Request bodies, validated by pydantic.

Field names and ranges follow the OpenAI API reference; `top_k`, `min_p` and `chat_template_kwargs`
are extensions that other local servers share, `n_draft` is our own.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from localmtp.limits import MAX_DRAFT

_INT64 = 2**63
MOST_CHOICES = 16
"""Maximum number of choices per prompt, and of prompts per request."""


def _encodable(text: str) -> str:
    """Reject lone surrogates, which JSON can represent and UTF-8 cannot."""
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("the text is not valid Unicode")
    return text


Text = Annotated[str, AfterValidator(_encodable)]
StopText = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_encodable)]
TokenId = Annotated[int, Field(ge=0)]
Tokens = Annotated[list[TokenId], Field(min_length=1)]


class _Body(BaseModel):
    """Rejects unknown fields: ignoring one silently could change the answer."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(_Body):
    """Options of a stream."""

    include_usage: bool = False
    include_obfuscation: bool = False
    """Ignored."""


class _Generation(_Body):
    """Fields of chats and completions."""

    model: str | None = None
    """None: the served model."""
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
    """Ignored, like the fields below: they do not change the answer."""
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None

    def stops(self) -> tuple[str, ...]:
        """Stop strings as a tuple."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def unsupported(self) -> str | None:
        """Name of the first field that would change the answer and is not supported."""
        fields = ("frequency_penalty", "presence_penalty", "logit_bias")
        return next((name for name in fields if getattr(self, name)), None)


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class ContentPart(BaseModel):
    """Part of a message's content; only text is supported."""

    type: str
    text: Text | None = None


class _Lenient(BaseModel):
    """Ignores unknown fields: histories contain fields of responses (refusal, annotations)."""

    model_config = ConfigDict(strict=True)


class CalledFunction(_Lenient):
    """Function name, and arguments as a JSON string."""

    name: Name
    arguments: Text = "{}"


class ToolCall(_Lenient):
    """An earlier call by the model."""

    id: Text
    function: CalledFunction


class ChatMessage(_Lenient):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[ContentPart] | None = None
    reasoning_content: Text | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: Text | None = None


class FunctionTool(_Body):
    """A function that the model may call."""

    name: Name
    description: Text = ""
    parameters: dict[str, Any] | None = None
    """A JSON schema."""
    strict: bool | None = None
    """Ignored."""


class Tool(_Body):
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


class TemplateOptions(_Body):
    """Variables of the chat template."""

    enable_thinking: bool | None = None


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


class ChatRequest(_Generation):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: int | None = Field(None, ge=1, le=_INT64 - 1)
    """The newer name of `max_tokens`."""
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
    """`none` disables thinking; all other values enable it."""
    chat_template_kwargs: TemplateOptions | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    """Ignored: the model decides."""


class CompletionRequest(_Generation):
    """`POST /v1/completions`."""

    prompt: (
        Text
        | Tokens
        | Annotated[list[Text] | list[Tokens], Field(min_length=1, max_length=MOST_CHOICES)]
    )
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool | None = None
