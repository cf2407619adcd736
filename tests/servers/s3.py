"""An S3 server on loopback: moto's, with one bucket."""

from __future__ import annotations

import contextlib
import io
import logging
import urllib.request
from typing import TYPE_CHECKING, Any

import boto3
from moto.server import ThreadedMotoServer

if TYPE_CHECKING:
    from typing import Self

__all__ = ["S3"]

BUCKET = "shelf"


class S3:
    """The server. `storage`: what a client needs. It forgets everything when it ends."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", port=0)
        self.endpoint = ""
        self.client: Any = None

    def __enter__(self) -> Self:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        with contextlib.redirect_stdout(io.StringIO()):
            self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        self.client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="reader",
            aws_secret_access_key="of the shelf",
        )
        self.client.create_bucket(Bucket=BUCKET)
        return self

    def __exit__(self, *exc: object) -> None:
        reset = urllib.request.Request(f"{self.endpoint}/moto-api/reset", method="POST")
        with urllib.request.urlopen(reset):  # its store is the process's
            pass
        self.client.close()
        self._server.stop()

    @property
    def storage(self) -> dict[str, str]:
        return {"endpoint_url": self.endpoint, "key": "writer", "secret": "hush-hush"}

    def objects(self) -> dict[str, bytes]:
        """What lies in the bucket."""
        listed = self.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return {
            entry["Key"]: self.client.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
            for entry in listed
        }
