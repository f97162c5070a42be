"""Uploads to the loopback hub: repository creation, Git LFS transfers, commits.

The protocol for clients without Xet: Git LFS's batch API
(https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md) and the hub's commit endpoint.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64decode
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from tests.hub import Hub

_REPO = r"([^/]+/[^/]+)"


@dataclass
class Store:
    """Users with write access, and uploaded content."""

    writers: dict[str, str] = field(default_factory=dict)
    """User names by token."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """Uploaded content by SHA-256."""
    received: list[int] = field(default_factory=list)
    """Sizes of received content uploads in bytes, in order."""
    summaries: list[str] = field(default_factory=list)
    """Commit summaries, in order."""


class Uploads(BaseHTTPRequestHandler):
    """Handles requests that write."""

    hub: Hub

    def take(self, path: str) -> None:
        """Reads the request's body and dispatches it by path."""
        body = self._body()
        routes = (
            (r"/upload/([0-9a-f]{64})", self._receive),
            (r"/api/validate-yaml", self._validate),
            (r"/api/repos/create", self._create),
            (rf"/api/models/{_REPO}/preupload/[^/]+", self._preupload),
            (rf"/{_REPO}\.git/info/lfs/objects/batch", self._batch),
            (rf"/api/models/{_REPO}/commit/[^/]+", self._commit),
        )
        for pattern, answer in routes:
            if match := re.fullmatch(pattern, path):
                answer(body, *match.groups())
                return
        self._refuse(404)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = bytearray()
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def _user(self) -> str:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return self.hub.store.writers.get(token, "")

    def _may_write(self, repo: str) -> bool:
        user = self._user()
        if user != repo.partition("/")[0]:
            self._refuse(403 if user else 401)
        elif repo not in self.hub.repositories:
            self._refuse(404)
        else:
            return True
        return False

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        repo = f"{asked['organization']}/{asked['name']}"
        if self._user() != asked["organization"]:
            self._refuse(403 if self._user() else 401)
        elif repo in self.hub.repositories:
            self._say({"url": f"{self.hub.endpoint}/{repo}"}, 409)
        else:
            made = self.hub.publish(repo, {})
            if asked.get("visibility") == "private":
                token = self.headers["Authorization"].removeprefix("Bearer ")
                made.needs_token = token
            self._say({"url": f"{self.hub.endpoint}/{repo}"})

    def _validate(self, body: bytes) -> None:
        front = re.match(r"---\n(.*?)\n---\n", json.loads(body)["content"], re.DOTALL)
        try:
            valid = isinstance(yaml.safe_load(front[1]) if front else None, dict)
        except yaml.YAMLError:
            valid = False
        errors = [] if valid else [{"message": "bad front matter"}]
        self._say({"warnings": [], "errors": errors}, 200 if valid else 400)

    def _preupload(self, body: bytes, repo: str) -> None:
        if self._may_write(repo):
            self._say(
                {
                    "files": [
                        {
                            "path": file["path"],
                            "uploadMode": "lfs" if file["path"].endswith(".gguf") else "regular",
                            "shouldIgnore": False,
                        }
                        for file in json.loads(body)["files"]
                    ]
                }
            )

    def _batch(self, body: bytes, repo: str) -> None:
        if self._may_write(repo):
            objects = json.loads(body)["objects"]
            for asked in objects:
                if asked["oid"] not in self.hub.store.objects:
                    href = f"{self.hub.content_endpoint}/upload/{asked['oid']}"
                    asked["actions"] = {"upload": {"href": href, "header": {}}}
            self._say({"transfer": "basic", "objects": objects})

    def _receive(self, body: bytes, oid: str) -> None:
        hub = self.hub
        with hub.lock:
            status = hub.faults.uploads.pop(0) if hub.faults.uploads else 0
        if status or hashlib.sha256(body).hexdigest() != oid:
            self._refuse(status or 400)
            return
        hub.store.objects[oid] = body
        hub.store.received.append(len(body))
        self._say({})

    def _commit(self, body: bytes, repo: str) -> None:
        if not self._may_write(repo):
            return
        files = self.hub.repositories[repo].files
        for line in body.splitlines():
            operation: dict[str, Any] = json.loads(line)
            value = operation["value"]
            if operation["key"] == "header":
                self.hub.store.summaries.append(value["summary"])
            elif operation["key"] == "file":
                files[value["path"]] = b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.store.objects[value["oid"]]
        revision = self.hub.repositories[repo].revision
        url = f"{self.hub.endpoint}/{repo}/commit/{revision}"
        self._say({"commitUrl": url, "commitOid": revision})

    def _refuse(self, status: int) -> None:
        self._say({"error": f"status {status}"}, status)

    def _say(self, value: object, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
