"""A small object store that speaks enough of S3 for `pyarrow.fs`: objects in a dict, on the loopback.

What it does not do: signatures (any are taken), versions, ranges beyond one `bytes=a-b`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

KEYS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_DEFAULT_REGION": "us-east-1",
}
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
_XMLNS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


class Bucket(BaseHTTPRequestHandler):
    """Handles one request on the objects of `server.objects`."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def _split(self) -> tuple[str, dict[str, list[str]]]:
        address = urlsplit(self.path)
        return unquote(address.path).lstrip("/"), parse_qs(address.query, keep_blank_values=True)

    def _reply(self, status: int, body: bytes = b"", size: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if size is None else size))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            data = b"".join(self._chunks())
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if "aws-chunked" not in self.headers.get("Content-Encoding", ""):
            return data
        found = b""
        while data:
            head, _, data = data.partition(b"\r\n")
            size = int(head.split(b";")[0], 16)
            if not size:
                break
            found, data = found + data[:size], data[size + 2 :]
        return found

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    @property
    def _objects(self) -> dict[str, bytes]:
        return self.server.objects  # type: ignore[attr-defined,no-any-return]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        key, query = self._split()
        if "list-type" in query or key.count("/") == 0:
            self._list(key.rstrip("/"), query)
            return
        data = self._objects.get(key)
        if data is None:
            self._reply(
                404, b"" if self.command == "HEAD" else f"{_HEAD}<Error><Code>NoSuchKey</Code></Error>".encode()
            )
            return
        dated = {"ETag": f'"{md5(data).hexdigest()}"', "Last_Modified": "Tue, 24 Nov 2026 09:00:00 GMT"}  # noqa: S324
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked:
            first, last = int(asked[1]), min(int(asked[2]), len(data) - 1)
            self._reply(206, data[first : last + 1], Content_Range=f"bytes {first}-{last}/{len(data)}", **dated)
        else:
            self._reply(200, data, size=len(data), **dated)

    def _list(self, bucket: str, query: dict[str, list[str]]) -> None:
        prefix = query.get("prefix", [""])[0]
        keys = [key.removeprefix(f"{bucket}/") for key in sorted(self._objects) if key.startswith(f"{bucket}/{prefix}")]
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-11-24T09:00:00.000Z</LastModified>"
            f"<Size>{len(self._objects[f'{bucket}/{key}'])}</Size></Contents>"
            for key in keys
        )
        head = f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(keys)}</KeyCount>"
        body = f"{_HEAD}<ListBucketResult {_XMLNS}>{head}<IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        self._reply(200, body.encode())

    def do_PUT(self) -> None:
        key, query = self._split()
        data = self._body()
        if "uploadId" in query:
            key = f"\0{key}\0{int(query['partNumber'][0]):05d}"
        self._objects[key] = data
        self._reply(200, ETag=f'"{md5(data).hexdigest()}"')  # noqa: S324

    def do_POST(self) -> None:
        key, query = self._split()
        self._body()
        if "uploads" in query:
            body = (
                f"{_HEAD}<InitiateMultipartUploadResult {_XMLNS}><UploadId>1</UploadId></InitiateMultipartUploadResult>"
            )
        else:
            pieces = sorted(name for name in self._objects if name.startswith(f"\0{key}\0"))
            self._objects[key] = b"".join(self._objects.pop(name) for name in pieces)
            body = f"{_HEAD}<CompleteMultipartUploadResult {_XMLNS}><ETag>1</ETag></CompleteMultipartUploadResult>"
        self._reply(200, body.encode())


@contextmanager
def object_store() -> Iterator[tuple[dict[str, bytes], str]]:
    """Objects by `bucket/key`, and the query that a URI needs to reach them."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    server.objects = {}  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        query = f"?scheme=http&endpoint_override=127.0.0.1:{server.server_port}&region=us-east-1"
        yield server.objects, query  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
