"""Requests are decoded, paced and counted like answers of `localmtp run`."""

from tests.serve.servers import Server, serving

COUNT = {"role": "user", "content": "Count from 1 to 20."}


def answer(server: Server, **fields: object) -> dict[str, object]:
    body = {"model": "nano", "messages": [COUNT], "max_tokens": 40, "temperature": 0, **fields}
    with server.http() as http:
        reply = http.post("/v1/chat/completions", json=body).json()
    stats: dict[str, object] = reply["choices"][0]["stats"]
    return stats


def test_without_a_drafter_the_reason_is_reported() -> None:
    with serving("--drafter", "none") as server, server.http() as http:
        assert answer(server)["drafting"] == "off: --drafter none"
        assert answer(server, n_draft=3)["drafting"] == "off: --drafter none"
        assert http.get("/health").json()["drafting"] == "off: --drafter none"


def test_the_most_threads_are_reported() -> None:
    with serving() as server:
        assert answer(server)["most_threads"] == 1
        assert answer(server)["threads"] == 1


def test_penalties_and_biases_reach_the_sampler() -> None:
    cat = {"messages": [{"role": "user", "content": "Count from 1 to 20."}], "max_tokens": 40}

    def text(server: Server, **fields: object) -> str:
        with server.http() as http:
            body = {"temperature": 0, **cat, **fields}
            reply = http.post("/v1/chat/completions", json=body)
        assert reply.status_code == 200, reply.text
        content: str = reply.json()["choices"][0]["message"]["content"]
        return content

    with serving() as server:
        plain = text(server)
        assert "11" in plain
        assert text(server, frequency_penalty=0, logit_bias={}, repeat_penalty=1.0) == plain
        for fields in (
            {"frequency_penalty": 2},
            {"presence_penalty": 2, "repetition_penalty": 8.0},
            {"repeat_penalty": 8.0},
        ):
            assert text(server, **fields) != plain, fields
        with server.http() as http:
            ids = http.post(
                "/v1/completions", json={"prompt": " cat", "max_tokens": 1, "logprobs": 1}
            )
            assert ids.status_code == 200
            for bias in ({"x": 1}, {"99999999": 1}, {"5": 200}):
                refused = http.post("/v1/chat/completions", json={**cat, "logit_bias": bias})
                assert refused.status_code == 400
                assert "logit_bias" in refused.text
