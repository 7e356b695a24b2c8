"""A baseline: the node as one would write it with asyncio streams; ``streams.py [uvloop]``. It says its port."""

import asyncio
import contextlib
import json
import sys


async def main() -> None:
    """Serve until killed."""
    msg_id = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal msg_id
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                message = json.loads(line)
                body = message["body"]
                if body["latency_ms"]:
                    await asyncio.sleep(body["latency_ms"] / 1000)
                reply = {
                    "type": body["type"] + "_ok",
                    "in_reply_to": body["msg_id"],
                    "result": "processed",
                    "duration_ms": body["latency_ms"],
                    "msg_id": msg_id,
                }
                msg_id += 1
                answer = {"src": message["dest"], "dest": message["src"], "body": reply}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    print(f"port={server.sockets[0].getsockname()[1]}", file=sys.stderr, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    if "uvloop" in sys.argv:
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
