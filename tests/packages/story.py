#!/usr/bin/env python3
"""What a user does with a server: uploads a file to the post of forum.sql, deletes the post, and restores both.

story.py ORIGIN JWT_KEYS [STEP…]   (default: all steps, in this order: page upload read delete restore read)
Steps may be told one by one, with other things in between. Only this tells `outdated`, and `declare send complete`, an upload to
another post whose declaration is kept in the file STORY_DECLARED.
"""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import sys
import time
import urllib.error
import urllib.request

STEPS = ("page", "upload", "read", "delete", "restore", "read")
# What a server says whose database has an older schema than it needs; and an upload, in parts.
OTHER_STEPS = ("outdated", "declare", "send", "complete")
TEXT = b"The beach, before the rain.\n" * 40


class Wrong(Exception):
    """The server did not do what it should."""


def expect(holds: bool, problem: str) -> None:
    if not holds:
        raise Wrong(problem)


class Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the token goes to the server alone."""

    def redirect_request(self, *_: object) -> None:
        return None


def send(method: str, url: str, body: "bytes | None", headers: dict, status: int) -> tuple:
    """The headers and the body of an answer, which has this status."""
    request = urllib.request.Request(url, data=body, method=method, headers=headers)
    try:
        with urllib.request.build_opener(Stay).open(request, timeout=20) as answer:
            got, found, content = answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        got, found, content = error.code, error.headers, error.read()
    # What follows `?` may let whoever has it in.
    expect(got == status, f"{method} {url.split('?')[0]} is answered with {got}: {content.decode(errors='replace')}")
    return found, content


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


class Story:
    """Ann of the tenant `acme`, at a server."""

    def __init__(self, origin: str, keys: str) -> None:
        self.origin = origin
        key_id, key = keys.split(",")[0].split(":", 1)
        claims = {"sub": "ann", "tenant": "acme", "scope": "attachments:read attachments:write", "exp": int(time.time()) + 600}
        signed = ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT", "kid": key_id}, claims))
        signature = hmac.digest(base64.b64decode(key), signed.encode(), "sha256")
        self.headers = {"authorization": f"Bearer {signed}.{encoded(signature)}"}

    def ask(self, method: str, path: str, content: "dict | None", status: int) -> dict:
        headers = self.headers | ({"content-type": "application/json"} if content is not None else {})
        body = None if content is None else json.dumps(content).encode()
        return json.loads(send(method, self.origin + path, body, headers, status)[1] or "null")

    def page(self) -> None:
        expect(b"<script" in send("GET", self.origin + "/", None, {}, 200)[1], "the server has no page")

    def upload(self) -> None:
        declared = self.declared("1")
        self.sent(declared)
        self.ask("POST", f"/v1/uploads/{declared['id']}/complete", None, 200)

    def declared(self, post: str) -> dict:
        digest = hashlib.sha256(TEXT).hexdigest()
        file = {"name": "beach.txt", "media_type": "text/plain", "size": len(TEXT), "sha256": digest}
        return self.ask("POST", "/v1/uploads", {"entity_type": "post", "entity_id": post, "files": [file]}, 201)

    def sent(self, declared: dict) -> None:
        (target,) = declared["files"]
        if not target["url"].startswith(self.origin):
            self.ask_store_to_let_the_page_in(target)
        send("PUT", target["url"], TEXT, target["headers"], 201 if target["url"].startswith(self.origin) else 200)

    def declare(self) -> None:
        self.kept().write_text(json.dumps(self.declared("2")))

    def send(self) -> None:
        self.sent(json.loads(self.kept().read_text()))

    def complete(self) -> None:
        self.ask("POST", f"/v1/uploads/{json.loads(self.kept().read_text())['id']}/complete", None, 200)
        self.read("2")

    def kept(self) -> pathlib.Path:
        return pathlib.Path(os.environ["STORY_DECLARED"])

    def ask_store_to_let_the_page_in(self, target: dict) -> None:
        """As a browser does before it sends a file elsewhere."""
        wanted = {
            "origin": self.origin,
            "access-control-request-method": "PUT",
            "access-control-request-headers": ",".join(sorted(name.lower() for name in target["headers"])),
        }
        allowed = send("OPTIONS", target["url"], None, wanted, 200)[0]["access-control-allow-origin"]
        expect(allowed in (self.origin, "*"), f"the store lets {allowed} in")

    def read(self, post: str = "1") -> None:
        (attachment,) = self.ask("GET", f"/v1/post/{post}/attachments", None, 200)["items"]
        answer = send("GET", f"{self.origin}/v1/attachments/{attachment['id']}/content", None, self.headers, 302)[0]
        expect(send("GET", answer["location"], None, {}, 200)[1] == TEXT, "the file has other bytes")

    def delete(self) -> None:
        self.ask("DELETE", "/v1/post/1", None, 204)
        self.ask("GET", "/v1/post/1/attachments", None, 404)

    def restore(self) -> None:
        self.ask("POST", "/v1/post/1/restore", None, 200)

    def outdated(self) -> None:
        self.ask("GET", "/healthz", None, 200)
        for method, path in (("GET", "/v1/post/1/attachments"), ("DELETE", "/v1/post/1"), ("POST", "/v1/post/1/restore")):
            problem = self.ask(method, path, None, 503)
            expect(problem["code"] == "schema_outdated" and "keepsake migrate" in problem["detail"], f"it says {problem}")


def tell(origin: str, keys: str, steps: "tuple | list") -> None:
    story = Story(origin, keys)
    for step in steps:
        getattr(story, step)()


if __name__ == "__main__":
    if len(sys.argv) < 3 or not set(sys.argv[3:]) <= {*STEPS, *OTHER_STEPS}:
        raise SystemExit(__doc__)
    try:
        tell(sys.argv[1], sys.argv[2], sys.argv[3:] or STEPS)
    except Wrong as wrong:
        raise SystemExit(f"error: {wrong}") from None
