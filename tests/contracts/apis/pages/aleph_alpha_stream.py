import asyncio
import os

from aleph_alpha_client import AsyncClient, CompletionRequest, Prompt
from aleph_alpha_client.completion import CompletionSummary, StreamChunk, StreamSummary


async def streaming_completion():
    async with AsyncClient(token=os.environ["ALEPH_ALPHA_TOKEN"], host=os.environ["ALEPH_ALPHA_HOST"]) as client:
        request = CompletionRequest(
            prompt=Prompt.from_text("Write a long story about space exploration:"), maximum_tokens=500, temperature=0.7
        )
        async for item in client.complete_with_streaming(request, "luminous-extended"):
            if isinstance(item, StreamChunk):
                print(item.completion, end="", flush=True)
            elif isinstance(item, StreamSummary):
                print(f"\nStream {item.index} finished: {item.finish_reason}")
            elif isinstance(item, CompletionSummary):
                print(f"Total tokens generated: {item.num_tokens_generated}")


asyncio.run(streaming_completion())
