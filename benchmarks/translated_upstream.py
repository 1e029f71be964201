"""An upstream for the benchmark: each request gets 50 events of Anthropic's or Google's stream, in one write.

`python translated_upstream.py PORT`; `/v1/messages` is Anthropic's, everything else Google's. The texts are those that
the load generator checks (` tok0000` to ` tok0049`).
"""

from __future__ import annotations

import asyncio
import json
import sys

import httptools
import uvloop

CHUNKS = 50


def _event(name: str, body: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(body)}\n\n".encode()


def anthropic() -> bytes:
    """The stream of https://docs.anthropic.com/en/api/messages-streaming."""
    usage = {"input_tokens": 412, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0, "output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "mock", "content": [], "usage": usage}
    out = [_event("message_start", {"type": "message_start", "message": message})]
    out.append(
        _event(
            "content_block_start",
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        )
    )
    for i in range(CHUNKS):
        delta = {"type": "text_delta", "text": f" tok{i:04d}"}
        out.append(_event("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta}))
    out.append(_event("content_block_stop", {"type": "content_block_stop", "index": 0}))
    ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": CHUNKS}}
    out.append(_event("message_delta", ended))
    out.append(_event("message_stop", {"type": "message_stop"}))
    return b"".join(out)


def gemini() -> bytes:
    """The stream of https://ai.google.dev/api/generate-content, with alt=sse."""
    out = []
    for i in range(CHUNKS):
        candidate: dict[str, object] = {
            "content": {"parts": [{"text": f" tok{i:04d}"}], "role": "model"},
            "index": 0,
        }
        if i == CHUNKS - 1:
            candidate["finishReason"] = "STOP"
        usage = {"promptTokenCount": 412, "candidatesTokenCount": i + 1, "totalTokenCount": 413 + i}
        body = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "mock", "responseId": "r1"}
        out.append(b"data: " + json.dumps(body).encode() + b"\r\n\r\n")
    return b"".join(out)


def _whole(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


class Server(asyncio.Protocol):
    ANTHROPIC, GEMINI = _whole(anthropic()), _whole(gemini())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.url = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.transport.write(self.ANTHROPIC if self.url.startswith(b"/v1/messages") else self.GEMINI)  # type: ignore[attr-defined]
        self.url = b""


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", port, backlog=4096)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
