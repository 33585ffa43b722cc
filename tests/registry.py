"""A registry of images, as far as Apptainer asks one by name: a fake, which serves what it is given.

    python3 registry.py PORT LOG docker=FOLDER oras=FILE

serves ``NAME/docker`` (any NAME, any tag), an image of one layer that holds FOLDER, and ``NAME/oras``, which
is a SIF file. Without TLS, without anybody's name; it writes each request to LOG.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import sys
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"

_blobs: dict[str, bytes] = {}
_images: dict[str, bytes] = {}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _blob(kind: str, data: bytes) -> dict[str, object]:
    _blobs[_digest(data)] = data
    return {"mediaType": kind, "digest": _digest(data), "size": len(data)}


def _image(config: dict[str, object], layer: dict[str, object]) -> bytes:
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": [layer]}
    return json.dumps(manifest).encode()


def docker(folder: str) -> bytes:
    """The manifest of an image of one layer."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(folder, arcname=".")
    layer = buffer.getvalue()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin", "OF_THE_IMAGE=yes"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    return _image(
        _blob("application/vnd.oci.image.config.v1+json", json.dumps(config).encode()),
        _blob("application/vnd.oci.image.layer.v1.tar+gzip", gzip.compress(layer, 1, mtime=0)),
    )


def oras(file: str) -> bytes:
    """The manifest of a SIF file."""
    return _image(
        _blob("application/vnd.sylabs.sif.config.v1+json", b"{}"),
        _blob("application/vnd.sylabs.sif.layer.v1.sif", Path(file).read_bytes()),
    )


class _Registry(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        asked = re.fullmatch(r"/v2/(?:.*/)?(\w+)/(manifests|blobs)/(.+)", self.path)
        if asked is None:
            self._answer(200, "application/json", b"{}")
        elif asked[2] == "blobs" and asked[3] in _blobs:
            self._answer(200, "application/octet-stream", _blobs[asked[3]])
        elif asked[2] == "manifests" and asked[1] in _images:
            self._answer(200, _MANIFEST, _images[asked[1]])
        else:
            error = {"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}
            self._answer(404, "application/json", json.dumps({"errors": [error]}).encode())

    def _answer(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if kind != "application/json":
            self.send_header("Docker-Content-Digest", _digest(body))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        with Path(sys.argv[2]).open("a") as log:
            log.write(f"{format % args}\n")


if __name__ == "__main__":
    for word in sys.argv[3:]:
        name, _, given = word.partition("=")
        _images[name] = {"docker": docker, "oras": oras}[name](given)
    server = ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), _Registry)
    Path(sys.argv[2]).write_text("")
    server.serve_forever()
