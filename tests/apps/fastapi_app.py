"""A FastAPI app under Uvicorn that tells what it sees. Prints its port, then serves for ever.

Arguments: none. The keep-alive timeout is Uvicorn's default, 5 s, because that is what most apps have.
"""

import asyncio
import hashlib
import socket

import uvicorn
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse

app = FastAPI(title="told by the tests")
events = []
released = asyncio.Event()


@app.get("/seen")
async def seen(request: Request):
    return {
        "client": request.client.host,
        "scheme": request.url.scheme,
        "host": request.headers["host"],
        "url": str(request.url),
    }


@app.get("/ok")
async def ok():
    return {"ok": True}


@app.post("/ok")
async def post_ok(request: Request):
    return {"length": len(await request.body())}


@app.post("/digest")
async def digest(request: Request):
    sha, length = hashlib.sha256(), 0
    async for piece in request.stream():
        sha.update(piece)
        length += len(piece)
    return {"sha256": sha.hexdigest(), "length": length}


@app.get("/download/{mebibytes}")
async def download(mebibytes: int):
    """Random-looking bytes; their digest comes as the last line of the body."""

    def pieces():
        sha = hashlib.sha256()
        for index in range(mebibytes):
            piece = hashlib.sha256(index.to_bytes(8, "big")).digest() * (1 << 15)
            sha.update(piece)
            yield piece
        yield sha.hexdigest().encode()

    return StreamingResponse(pieces(), media_type="application/octet-stream")


@app.get("/events")
async def sse():
    """Five events, each sent only after `/release` was called for the one before."""

    async def stream():
        for index in range(5):
            released.clear()
            yield f"data: {index}\n\n"
            await released.wait()

    return StreamingResponse(stream(), media_type="text/event-stream")


@app.post("/release")
async def release():
    released.set()
    return {}


@app.get("/until-aborted")
async def until_aborted():
    async def stream():
        events.append("started")
        try:
            while True:
                yield b"x" * 1024
                await asyncio.sleep(0.02)
        finally:
            events.append("aborted")

    return StreamingResponse(stream())


@app.get("/told")
async def told():
    return JSONResponse(events)


@app.websocket("/ws")
async def ws(socket: WebSocket):
    await socket.accept()
    while True:
        await socket.send_text(await socket.receive_text())


def main():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        app, proxy_headers=True, forwarded_allow_ips="127.0.0.1", log_level="warning", access_log=False
    )
    uvicorn.Server(config).run(sockets=[listener])


main()
