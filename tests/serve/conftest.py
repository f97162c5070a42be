"""One server shared by the tests that do not change its state."""

from collections.abc import Iterator

import openai
import pytest

from tests.serve.servers import Server, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with serving("--queue", "200") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url, api_key="any", max_retries=0) as client:
        yield client
