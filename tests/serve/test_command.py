"""`localmtp serve` on the command line: safe defaults and clear errors."""

import subprocess
import sys

import pytest

from tests.serve.servers import serving


def failed(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "localmtp", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) <= 2
    return done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "localhost.example"])
def test_addresses_beyond_loopback_require_a_key(host: str) -> None:
    assert "--api-key" in failed("nano", "--host", host)


def test_port_in_use() -> None:
    with serving() as server:
        port = server.root.rpartition(":")[2]
        assert f"127.0.0.1:{port}" in failed("nano", "--port", port)


def test_missing_extra_prints_the_install_command() -> None:
    code = """
import sys
sys.modules["uvicorn"] = None  # importing it fails as if it were missing
from localmtp.cli import main
sys.argv = ["localmtp", "serve", "nano"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'localmtp[serve]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_key_is_required_on_all_paths_but_health() -> None:
    with serving(environment={"LOCALMTP_API_KEY": "sésame"}) as server, server.http() as http:
        for path in ("/v1/models", "/metrics", "/openapi.json"):
            for given in ("", "Bearer wrong", "sésame", "Basic sésame"):
                refused = http.get(path, headers={b"Authorization": given.encode()})
                assert refused.status_code == 401
                assert refused.json()["error"]["code"] == "invalid_api_key"
        key = {b"Authorization": "Bearer sésame".encode()}
        assert http.get("/v1/models", headers=key).status_code == 200
        assert http.get("/v1/models", headers={**key, b"Host": b"a.example"}).status_code == 200
        assert http.get("/health").status_code == 200


def test_cors_is_off_by_default() -> None:
    question = {"Origin": "http://a.example", "Access-Control-Request-Method": "POST"}
    allowed = "Access-Control-Allow-Origin"
    with serving() as server, server.http() as http:
        assert allowed not in http.options("/v1/models", headers=question).headers
        assert allowed not in http.get("/v1/models", headers=question).headers
    with serving("--cors", "http://a.example") as server, server.http() as http:
        answer = http.options("/v1/models", headers=question)
        assert answer.headers[allowed] == "http://a.example"
        other = {**question, "Origin": "http://b.example"}
        assert allowed not in http.get("/v1/models", headers=other).headers


def test_flags_are_defaults_of_requests() -> None:
    flags = ("--temp", "0", "--max-tokens", "5", "--n-draft", "2", "--system", "Be brief.")
    with serving(*flags) as server, server.http() as http:
        turns = {"messages": [{"role": "user", "content": "Count from 1 to 9."}]}
        one, two = (http.post("/v1/chat/completions", json=turns).json() for _ in range(2))
        assert one["choices"][0]["message"] == two["choices"][0]["message"]
        assert one["usage"]["completion_tokens"] == 5
        assert 0 < one["choices"][0]["stats"]["draft_length_mean"] <= 2
        bare = http.post(
            "/v1/chat/completions",
            json={"messages": [{"role": "system", "content": ""}, *turns["messages"]]},
        ).json()
        assert bare["usage"]["prompt_tokens"] < one["usage"]["prompt_tokens"]
