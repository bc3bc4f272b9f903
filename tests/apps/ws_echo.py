"""A WebSocket server that echoes each message as it came. Prints its port, then serves for ever.

A text message `close CODE` makes it close with that code.
"""

import asyncio

from websockets.asyncio.server import serve


async def echo(connection):
    async for message in connection:
        if isinstance(message, str) and message.startswith("close "):
            await connection.close(int(message.removeprefix("close ")), "asked for")
            return
        await connection.send(message)


async def main():
    async with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()


asyncio.run(main())
