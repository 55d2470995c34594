"""A worker that knows nothing of tickplant: the public reference's asyncio reader, with its short reads."""

import asyncio
import io
import json
import sys
from pathlib import Path


class Pipe:
    def __init__(self, reader):
        self.read = reader.read

    async def read_with_header(self):
        header = await self.read(4)
        if not header:
            return b""
        total_length = int.from_bytes(header, byteorder="little")
        total_read = 0
        result = io.BytesIO()
        while total_read < total_length:
            got = await self.read(total_length - total_read)
            total_read += len(got)
            result.write(got)
        return result.getvalue()


async def follow(number, out):
    reader = asyncio.StreamReader()
    with open(number, "rb", buffering=0) as pipe, Path(f"{out}.{number}").open("w", buffering=1) as file:  # noqa: ASYNC230, PTH123
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        source, count = Pipe(reader), 0
        while text := await source.read_with_header():
            trade = json.loads(text)
            count += 1
            file.write(f"{count} {trade['sym']} {trade['q']}\n")


async def main():
    await asyncio.gather(*(follow(int(number), sys.argv[1]) for number in sys.argv[2:]))


asyncio.run(main())
