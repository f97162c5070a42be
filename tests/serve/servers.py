"""`localmtp serve` as a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    """Base URL: `http://127.0.0.1:PORT/v1`."""
    process: subprocess.Popen[str]

    @property
    def root(self) -> str:
        return self.url.removesuffix("/v1")

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.root, timeout=60, trust_env=False, verify=False)

    def metrics(self) -> dict[str, float]:
        """Samples by name, with label values in braces."""
        with self.http() as client:
            page = client.get("/metrics").text
        return {
            sample.name + "".join(f"{{{v}}}" for v in sample.labels.values()): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }


@contextmanager
def serving(
    *flags: str, model: str = "nano", environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Serve a model on a free port until the block ends."""
    command = [sys.executable, "-m", "localmtp", "serve", model, "--threads", "1", "--port", "0"]
    process = subprocess.Popen(
        [*command, *flags],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert line.startswith("serving "), line
        yield Server(line.split()[3], process)
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stderr.close()
