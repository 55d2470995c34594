"""The provider's own client, its address changed: prints what it received of a tape. Runs in the peers' environment."""

import asyncio
import json
import os
import sys

from massive import WebSocketClient


async def main():
    host, key, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    client = WebSocketClient(api_key=key, feed=host, secure=False, subscriptions=["T.*"])
    taken = []

    async def handle(messages):
        taken.extend(messages)
        if len(taken) >= count:
            kinds = sorted({type(message).__name__ for message in taken})
            print(json.dumps({"kinds": kinds, "sequences": [message.sequence_number for message in taken]}), flush=True)
            os._exit(0)

    await client.connect(handle)


asyncio.run(main())
