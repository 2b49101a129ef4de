"""S3 endpoints that take a connection and say nothing: given up once botocore has."""

from __future__ import annotations

import functools
import inspect
from typing import Any


class SilentServerError(ConnectionError):
    """An endpoint said nothing to any try of botocore's."""


def give_up_on_silence(fs: Any) -> None:
    """Have an s3fs filesystem not try again what was met with silence at each try of botocore.

    Its own tries around them would make the wait three times as long. All else it tries again.
    """
    if "get_s3" in vars(fs):
        return
    client = fs.get_s3

    async def get_s3(bucket: str | None = None) -> Any:
        return _Client(await client(bucket))

    fs.get_s3 = get_s3


class _Client:
    """An S3 client whose time-outs are not among the errors that s3fs tries again."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not callable(method):
            return method

        @functools.wraps(method)
        def call(*arguments: Any, **options: Any) -> Any:
            answer = method(*arguments, **options)
            return _awaited(answer) if inspect.iscoroutine(answer) else answer

        return call


async def _awaited(answer: Any) -> Any:
    try:
        return await answer
    except Exception as error:
        # botocore's, which need not be there
        names = {kind.__name__ for kind in type(error).__mro__}
        if names & {"ReadTimeoutError", "ConnectTimeoutError"}:
            raise SilentServerError(str(error)) from error
        raise
