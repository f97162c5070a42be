"""From checked bodies to tasks, and from tasks to responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from starlette.requests import Request

from localmtp.engine.llama import Grammar
from localmtp.errors import LocalmtpError
from localmtp.serve import responses
from localmtp.serve.errors import APIError
from localmtp.serve.generation.model import ServedModel
from localmtp.serve.generation.tasks import Task
from localmtp.serve.generation.worker import Worker
from localmtp.serve.metrics import Metrics
from localmtp.serve.wire import conversation
from localmtp.serve.wire.requests import ChatRequest, CompletionRequest
from localmtp.serve.wire.schemas import grammar_of
from localmtp.serve.wire.shapes import ChatShape, Json, Shape, TextShape
from localmtp.serve.wire.tools import CallScanner

_COMPLETION_TOKENS = 16
"""OpenAI's default length of `/v1/completions`; chats go on until the model ends them."""

Body = ChatRequest | CompletionRequest


@dataclass(frozen=True, slots=True)
class Service:
    """What the routes work with."""

    model: ServedModel
    worker: Worker
    metrics: Metrics

    async def chat(self, body: ChatRequest, request: Request) -> Response:
        """Answer a conversation.

        Raises:
            APIError: the request cannot be served.
        """
        self._check(body)
        if body.top_logprobs is not None and not body.logprobs:
            raise APIError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
        turns = conversation.turns(body.messages)
        if self.model.choices.system and turns[0]["role"] != "system":
            turns.insert(0, {"role": "system", "content": self.model.choices.system})
        tools = conversation.tools(body)
        begun = conversation.begun_call(body)
        grammar = await self._grammar(body)
        if grammar and begun:
            raise APIError(400, "a call and a response_format exclude each other")
        think = self._thinks(body) and grammar is None  # a grammar leaves no room for thoughts
        text = await self._rendered(turns, tools, think=think)
        prompt = await self._tokens(text + begun, "messages")
        logprobs = (body.top_logprobs or 0) if body.logprobs else None
        limit = body.max_completion_tokens or body.max_tokens
        tasks = self._tasks(body, [prompt], limit, logprobs, grammar)
        shape = ChatShape(
            self.model.name,
            with_usage=_with_usage(body),
            logprobs=bool(body.logprobs),
            scanners=partial(CallScanner, begun) if tools else None,
        )
        return await self._respond(body, request, tasks, shape)

    async def complete(self, body: CompletionRequest, request: Request) -> Response:
        """Go on with texts.

        Raises:
            APIError: the request cannot be served.
        """
        self._check(body)
        if body.echo:
            raise APIError(400, "echo is not supported", param="echo")
        prompts = [await self._prompt(prompt) for prompt in _prompts(body)]
        tasks = self._tasks(body, prompts, body.max_tokens or _COMPLETION_TOKENS, body.logprobs)
        shape = TextShape(
            self.model.name, with_usage=_with_usage(body), logprobs=body.logprobs is not None
        )
        return await self._respond(body, request, tasks, shape)

    def _check(self, body: Body) -> None:
        if body.model not in (None, self.model.name):
            raise APIError(
                404,
                f"the model {body.model[:100]!r} is not served here; {self.model.name!r} is",
                param="model",
                code="model_not_found",
            )
        if name := body.unsupported():
            raise APIError(400, f"{name} is not supported", param=name)
        if body.stream_options and not body.stream:
            raise APIError(400, "stream_options needs stream: true", param="stream_options")

    def _thinks(self, body: ChatRequest) -> bool:
        options = body.chat_template_kwargs
        if options and options.enable_thinking is not None:
            return options.enable_thinking
        if body.reasoning_effort is not None:
            return body.reasoning_effort != "none"
        return self.model.choices.think

    async def _prompt(self, prompt: str | list[int]) -> Sequence[int]:
        if isinstance(prompt, str):
            if not prompt:
                raise APIError(400, "the prompt is empty", param="prompt")
            return await self._tokens(prompt, "prompt")
        if max(prompt) >= self.model.vocab_size:
            raise APIError(
                400, f"token ids go from 0 to {self.model.vocab_size - 1}", param="prompt"
            )
        if len(prompt) >= self.model.context_size:
            n, size = len(prompt), self.model.context_size
            raise _too_long(f"the prompt has {n} tokens and the context {size}", "prompt")
        return prompt

    async def _grammar(self, body: ChatRequest) -> Grammar | None:
        """What `response_format` demands."""
        wanted = body.response_format
        if wanted is None or wanted.type == "text":
            return None
        schema = wanted.json_schema
        if wanted.type == "json_schema" and (schema is None or schema.schema_ is None):
            raise APIError(400, "json_schema.schema is missing", param="response_format")
        text = await run_in_threadpool(grammar_of, schema.schema_ if schema else None)
        try:
            return await run_in_threadpool(self.model.grammar, text)
        except LocalmtpError as error:
            raise APIError(400, error.message, param="response_format") from error

    async def _rendered(self, turns: Sequence[Json], tools: Sequence[Json], *, think: bool) -> str:
        try:
            return await run_in_threadpool(self.model.chat_text, turns, tools, think=think)
        except LocalmtpError as error:
            raise APIError(400, error.message, param="messages") from error

    async def _tokens(self, text: str, param: str) -> list[int]:
        """Tokenize off the event loop: a long text takes a while."""
        try:
            return await run_in_threadpool(self.model.text_prompt, text)
        except LocalmtpError as error:
            raise _too_long(error.message, param) from error

    def _tasks(
        self,
        body: Body,
        prompts: Sequence[Sequence[int]],
        limit: int | None,
        logprobs: int | None,
        grammar: Grammar | None = None,
    ) -> list[Task]:
        chosen: dict[str, Any] = {
            name: value
            for name in ("temperature", "top_k", "top_p", "min_p")
            if (value := getattr(body, name)) is not None
        }
        if body.seed is not None:
            chosen["seed"] = body.seed % 2**64
        if body.n_draft is not None:
            chosen["n_draft"] = None if body.n_draft == "auto" else body.n_draft
        settings = self.model.settings(chosen)
        limits = [n for n in (limit, settings.max_tokens) if n is not None]
        seed = settings.sampling.seed
        return [
            Task(
                prompt=prompt,
                sampling=replace(settings.sampling, seed=None if seed is None else seed + i),
                n_draft=settings.n_draft,
                max_tokens=min(limits, default=None),
                stops=body.stops(),
                logprobs=logprobs,
                grammar=grammar,
            )
            for prompt in prompts
            for i in range(body.n or 1)
        ]

    async def _respond(
        self, body: Body, request: Request, tasks: Sequence[Task], shape: Shape
    ) -> Response:
        per_prompt = body.n or 1
        if body.stream:
            return responses.stream(
                self.worker, tasks, shape, per_prompt, with_usage=_with_usage(body)
            )
        return await responses.whole(request, self.worker, tasks, shape, per_prompt)


def _with_usage(body: Body) -> bool:
    return body.stream_options is not None and body.stream_options.include_usage


def _prompts(body: CompletionRequest) -> list[str | list[int]]:
    if isinstance(body.prompt, str):
        return [body.prompt]
    ids = [part for part in body.prompt if isinstance(part, int)]
    return [ids] if ids else [part for part in body.prompt if not isinstance(part, int)]


def _too_long(message: str, param: str) -> APIError:
    return APIError(400, message, param=param, code="context_length_exceeded")
