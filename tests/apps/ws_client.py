"""Drives a WebSocket echo through the proxy and exits with 0 when everything came back as sent.

Arguments: port of the proxy, certificate of its CA, and the number of messages.
"""

import asyncio
import hashlib
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

PORT, CA, COUNT = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])


def dial():
    context = ssl.create_default_context(cafile=CA)
    return connect(
        "wss://a.test/", host="127.0.0.1", port=PORT, ssl=context, server_hostname="a.test", max_size=None, proxy=None
    )


async def many():
    async with dial() as socket:

        async def send():
            for index in range(COUNT):
                await socket.send(f"message {index}" if index % 2 else hashlib.sha256(b"%d" % index).digest())

        sender = asyncio.create_task(send())
        for index in range(COUNT):
            expected = f"message {index}" if index % 2 else hashlib.sha256(b"%d" % index).digest()
            assert await socket.recv() == expected, index
        await sender


async def fragments():
    async with dial() as socket:
        pieces = [b"one", b"", b"two" * 1000, b"three"]

        async def parts():
            for piece in pieces:
                yield piece

        await socket.send(parts())
        assert await socket.recv() == b"".join(pieces)
        await socket.send(["te", "xt", "\u00e4"])
        assert await socket.recv() == "text\u00e4"


async def large():
    async with dial() as socket:
        message = b"".join(hashlib.sha256(b"%d" % index).digest() for index in range(1 << 15))
        for _ in range(3):
            await socket.send(message)
            assert await socket.recv() == message
        pong = await socket.ping()
        await asyncio.wait_for(pong, 10)


async def closes():
    for code in (1000, 1001, 3000, 4999):
        async with dial() as socket:
            await socket.send(f"close {code}")
            try:
                await socket.recv()
            except ConnectionClosed as closed:
                assert closed.rcvd.code == code and closed.rcvd.reason == "asked for", closed
            else:
                raise AssertionError("not closed")
    socket = await dial()
    await socket.close(4321, "by the client")
    assert socket.close_code == 4321


async def main():
    for part in (many, fragments, large, closes):
        await asyncio.wait_for(part(), 100)
        print(part.__name__, "ok")


asyncio.run(main())
