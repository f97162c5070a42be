"""Turns validated requests into generation parameters, and those into responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from starlette.requests import Request

from localmtp.engine.events import Channel
from localmtp.engine.llama import Grammar
from localmtp.engine.text.quoting import quote
from localmtp.errors import LocalmtpError
from localmtp.media import Media
from localmtp.serve.delivery import respond, respond_streaming
from localmtp.serve.dialects.anthropic_requests import CountTokensRequest, MessagesRequest
from localmtp.serve.dialects.anthropic_writer import AnthropicWriter
from localmtp.serve.dialects.ollama_requests import OllamaChatRequest, OllamaGenerateRequest
from localmtp.serve.dialects.ollama_writer import OllamaWriter, loaded
from localmtp.serve.dialects.response_store import ResponseStore
from localmtp.serve.dialects.responses_requests import ResponsesRequest
from localmtp.serve.dialects.responses_writer import ResponsesWriter
from localmtp.serve.errors import APIError
from localmtp.serve.generation.job import GenerationParams
from localmtp.serve.generation.model import ServedModel
from localmtp.serve.generation.worker import Worker
from localmtp.serve.media.sources import MediaCollector, MediaReader, media_error
from localmtp.serve.metrics import Metrics
from localmtp.serve.wire import messages as chat_messages
from localmtp.serve.wire.requests import ChatRequest, CompletionRequest
from localmtp.serve.wire.sampling import chosen_settings
from localmtp.serve.wire.schemas import grammar_of
from localmtp.serve.wire.tools import CallRules, answer_grammar
from localmtp.serve.wire.writers import ChatWriter, CompletionWriter, Json, ResponseWriter
from localmtp.session import Settings
from localmtp.session.prompts import TokenPrompt

_COMPLETION_TOKENS = 16
"""OpenAI's default `max_tokens` for `/v1/completions`; chats have none."""

AnyRequest = ChatRequest | CompletionRequest


@dataclass(frozen=True, slots=True)
class Service:
    """Handles the requests of the routes."""

    model: ServedModel
    worker: Worker
    metrics: Metrics
    media: MediaReader
    stored: ResponseStore = field(default_factory=ResponseStore)
    """For `previous_response_id`."""

    def close(self) -> None:
        """Cancel everything, save the pacing data and free the model; harmless when repeated."""
        if self.worker.close():
            self.model.close()

    async def chat(self, body: ChatRequest, request: Request) -> Response:
        """Respond to a chat request.

        Raises:
            APIError: the request is rejected.
        """
        params = await self._chat_params(body)
        writer = ChatWriter(
            self.model.name, with_usage=_with_usage(body), logprobs=bool(body.logprobs)
        )
        return await self._respond(body, request, params, writer)

    async def responses(self, body: ResponsesRequest, request: Request) -> Response:
        """Respond to a request of OpenAI's Responses API.

        Raises:
            APIError: the request is rejected.
        """
        history: Sequence[Json] = ()
        if body.previous_response_id is not None:
            previous = self.stored.get(body.previous_response_id)
            if previous is None:
                message = f"response {body.previous_response_id[:100]!r} is not stored here"
                raise APIError(404, message, param="previous_response_id")
            history = previous.items
        items = [*history, *self.stored.resolved(body.items())]
        chat = body.chat(items)
        params = await self._chat_params(chat, "input")

        def store(response: Json) -> None:
            if body.store is not False:
                self.stored.add(response, [*items, *response["output"]])

        writer = ResponsesWriter(body, self.model.name, store)
        return await self._respond(chat, request, params, writer)

    async def messages(self, body: MessagesRequest, request: Request) -> Response:
        """Respond to a request of Anthropic's Messages API.

        Raises:
            APIError: the request is rejected.
        """
        chat = body.chat()
        params = await self._chat_params(chat)
        writer = AnthropicWriter(self.model.name, len(params[0].prompt))
        return await self._respond(chat, request, params, writer)

    async def ollama_chat(self, body: OllamaChatRequest, request: Request) -> Response:
        """Respond to a chat request of Ollama's API.

        Raises:
            APIError: the request is rejected.
        """
        if not body.messages:
            self._check_model(body.model.removesuffix(":latest"))
            return JSONResponse(loaded(body.model, chat=True))
        chat = body.chat()
        params = await self._chat_params(chat)
        return await self._respond(chat, request, params, OllamaWriter(body.model, chat=True))

    async def ollama_generate(self, body: OllamaGenerateRequest, request: Request) -> Response:
        """Respond to a prompt of Ollama's API.

        Raises:
            APIError: the request is rejected.
        """
        if not (body.prompt or body.images):
            self._check_model(body.model.removesuffix(":latest"))
            return JSONResponse(loaded(body.model, chat=False))
        writer = OllamaWriter(body.model, chat=False)
        if not body.raw:
            chat = body.chat()
            return await self._respond(chat, request, await self._chat_params(chat), writer)
        completion = body.completion()
        params = await self._completion_params(completion)
        return await self._respond(completion, request, params, writer)

    async def count_tokens(self, body: CountTokensRequest) -> int:
        """Number of prompt tokens of a request.

        Raises:
            APIError: the request is rejected.
        """
        (params,) = await self._chat_params(body.chat())
        return len(params.prompt)

    async def _chat_params(
        self, body: ChatRequest, param: str = "messages"
    ) -> list[GenerationParams]:
        """Parameters of a chat; `param` is the field with its messages, for errors."""
        self._check(body)
        if body.top_logprobs is not None and not body.logprobs:
            raise APIError(400, "top_logprobs requires logprobs: true", param="top_logprobs")
        collected = MediaCollector(param)
        turns = chat_messages.turns(body.messages, collected)
        media = await self._media(body, collected)
        if self.model.choices.system and turns[0]["role"] != "system":
            turns.insert(0, {"role": "system", "content": self.model.choices.system})
        functions = chat_messages.functions(body)
        settings = self._thinking(body)
        think = settings.thinks
        begun = _begun(body, turns)
        text = await self._rendered(turns, chat_messages.tools(functions), think=think)
        text, in_thought = self.model.markup.continued(text, *begun)
        rules = chat_messages.call_rules(body)
        grammar = await self._grammar(body, rules, think=think, in_thought=in_thought)
        prompt = await self._tokens(text, param, media)
        logprobs = (body.top_logprobs or 0) if body.logprobs else None
        return [
            replace(
                params,
                grammar=grammar,
                think_budget=settings.think_budget,
                functions={f.name: f.parameters for f in functions} if functions else None,
                channel=Channel.THOUGHT if in_thought else Channel.ANSWER,
            )
            for params in self._params(body, [prompt], body.limit(), logprobs)
        ]

    async def _media(self, body: ChatRequest, collected: MediaCollector) -> list[Media]:
        """Images and sounds of a chat, decoded once outside the event loop, to be counted."""
        media = await self.media.read(collected)
        if not media:
            return media
        # In base64 they are larger than all else; the decoded bytes take their place.
        for message in body.messages:
            message.content = None
        try:
            await self.media.in_turn(self.model.place, media)
        except LocalmtpError as error:
            raise media_error(error, collected.param) from error
        for each in media:
            self.metrics.media.labels(each.kind).inc()
        return media

    async def complete(self, body: CompletionRequest, request: Request) -> Response:
        """Respond to a completion request.

        Raises:
            APIError: the request is rejected.
        """
        params = await self._completion_params(body)
        writer = CompletionWriter(
            self.model.name, with_usage=_with_usage(body), logprobs=body.logprobs is not None
        )
        return await self._respond(body, request, params, writer)

    async def _completion_params(self, body: CompletionRequest) -> list[GenerationParams]:
        self._check(body)
        prompts = [TokenPrompt([*await self._prompt(prompt)]) for prompt in _prompts(body)]
        limit = _COMPLETION_TOKENS if body.max_tokens is None else body.limit()
        return self._params(body, prompts, limit, body.logprobs)

    def _check(self, body: AnyRequest) -> None:
        if body.model is not None:
            self._check_model(body.model)
        if body.stream_options and not body.stream:
            raise APIError(400, "stream_options requires stream: true", param="stream_options")

    def _check_model(self, name: str) -> None:
        if name != self.model.name:
            raise APIError(
                404,
                f"model {name[:100]!r} is not served here; {self.model.name!r} is",
                param="model",
                code="model_not_found",
            )

    def _thinking(self, body: ChatRequest) -> Settings:
        """Settings with the request's `think` and `think_budget`."""
        chosen: dict[str, Any] = {}
        if (think := body.thinks()) is not None:
            chosen["think"] = think
        if (budget := body.think_budget()) is not None:
            chosen["think_budget"] = None if budget < 0 else budget
        return self.model.settings(chosen)

    async def _prompt(self, prompt: str | list[int]) -> Sequence[int]:
        if isinstance(prompt, str):
            if not prompt:
                raise APIError(400, "the prompt is empty", param="prompt")
            return (await self._tokens(prompt, "prompt")).tokens
        if max(prompt) >= self.model.vocab_size:
            raise APIError(
                400,
                f"token ids must be in the range 0 to {self.model.vocab_size - 1}",
                param="prompt",
            )
        if len(prompt) >= self.model.context_size:
            n, size = len(prompt), self.model.context_size
            raise _too_long(f"the prompt has {n} tokens, the context {size}", "prompt")
        return prompt

    async def _grammar(
        self, body: ChatRequest, rules: CallRules | None, *, think: bool, in_thought: bool
    ) -> Grammar | None:
        """Grammar for `response_format` and the tool calls."""
        json_grammar = await _json_grammar(body)
        if not json_grammar and rules is None:
            return None
        if json_grammar and rules is None and (functions := chat_messages.functions(body)):
            rules = CallRules({function.name: None for function in functions})
        markers = self.model.markers
        if markers is None:
            if rules and rules.required:
                message = "the vocabulary of the model has no tokens for tool calls"
                raise APIError(400, message, param="tool_choice")
            text = json_grammar
            return await self._parsed(text, "response_format") if text else None

        def grammar(calls: CallRules | None) -> str:
            return answer_grammar(
                markers,
                calls=calls,
                json_grammar=json_grammar,
                thinks=think,
                in_thought=in_thought,
            )

        if rules is None or json_grammar:
            return await self._parsed(grammar(rules), "response_format")
        try:
            return await self._parsed(grammar(rules), "tools")
        except APIError:  # too large for libllama: hold the names of the functions only
            return await self._parsed(grammar(rules.loose()), "tools")

    async def _parsed(self, text: str, param: str) -> Grammar:
        try:
            return await run_in_threadpool(self.model.grammar, text)
        except LocalmtpError as error:
            raise APIError(400, error.message, param=param) from error

    async def _rendered(self, turns: Sequence[Json], tools: Sequence[Json], *, think: bool) -> str:
        try:
            return await run_in_threadpool(self.model.chat_text, turns, tools, think=think)
        except LocalmtpError as error:
            raise APIError(400, error.message, param="messages") from error

    async def _tokens(self, text: str, param: str, media: Sequence[Media] = ()) -> TokenPrompt:
        """Tokenize outside the event loop: long texts take time."""
        try:
            return await run_in_threadpool(self.model.text_prompt, text, media)
        except LocalmtpError as error:
            raise _too_long(error.message, param) from error

    def _params(
        self,
        body: AnyRequest,
        prompts: Sequence[TokenPrompt],
        limit: int | None,
        logprobs: int | None,
    ) -> list[GenerationParams]:
        chosen = chosen_settings(body, self.model.vocab_size)
        settings = self.model.settings(chosen)
        limits = [n for n in (limit, settings.max_tokens) if n is not None]
        seed = settings.sampling.seed
        return [
            GenerationParams(
                prompt=prompt.tokens,
                media=prompt.media,
                sampling=replace(settings.sampling, seed=None if seed is None else seed + i),
                n_draft=settings.n_draft,
                max_tokens=min(limits, default=None),
                stops=body.stops(),
                logprobs=logprobs,
            )
            for prompt in prompts
            for i in range(body.n or 1)
        ]

    async def _respond(
        self,
        body: AnyRequest,
        request: Request,
        params: list[GenerationParams],
        writer: ResponseWriter,
    ) -> Response:
        per_prompt = body.n or 1
        if body.stream:
            return respond_streaming(request, self.worker, params, writer, per_prompt)
        return await respond(request, self.worker, params, writer, per_prompt)


async def _json_grammar(body: ChatRequest) -> str:
    """Grammar for `response_format`; empty for free text."""
    form = body.response_format
    if form is None or form.type == "text":
        return ""
    schema = form.json_schema
    if form.type == "json_schema" and (schema is None or schema.schema_ is None):
        raise APIError(400, "json_schema.schema is missing", param="response_format")
    return await run_in_threadpool(grammar_of, schema.schema_ if schema else None)


def _begun(body: ChatRequest, turns: list[Json]) -> tuple[str, str]:
    """Thought and text of the answer that is continued; it is removed from the turns.

    Raises:
        APIError: there is none.
    """
    if not body.continue_final_message:
        if not body.add_generation_prompt:
            message = "add_generation_prompt: false requires continue_final_message: true"
            raise APIError(400, message, param="add_generation_prompt")
        return "", ""
    last = turns[-1]
    if len(turns) < 2 or last["role"] != "assistant" or "tool_calls" in last:
        message = "continue_final_message requires a last message of the assistant, without calls"
        raise APIError(400, message, param="continue_final_message")
    turns.pop()
    content = last["content"] if isinstance(last["content"], str) else ""
    return quote(str(last.get("reasoning_content", ""))), quote(content)


def _with_usage(body: AnyRequest) -> bool:
    return body.stream_options is not None and body.stream_options.include_usage


def _prompts(body: CompletionRequest) -> list[str | list[int]]:
    if isinstance(body.prompt, str):
        return [body.prompt]
    ids = [part for part in body.prompt if isinstance(part, int)]
    return [ids] if ids else [part for part in body.prompt if not isinstance(part, int)]


def _too_long(message: str, param: str) -> APIError:
    return APIError(400, message, param=param, code="context_length_exceeded")
