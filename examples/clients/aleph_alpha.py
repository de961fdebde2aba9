"""aleph-alpha-client: ALEPH_ALPHA_HOST = status.urls.AlephAlpha, ALEPH_ALPHA_TOKEN = a key. Arguments: MODEL PROMPT"""

import asyncio
import os
import sys

from aleph_alpha_client import AsyncClient, CompletionRequest, Prompt


async def main(model, prompt):
    request = CompletionRequest(prompt=Prompt.from_text(prompt), maximum_tokens=32)
    async with AsyncClient(os.environ["ALEPH_ALPHA_TOKEN"], os.environ["ALEPH_ALPHA_HOST"]) as client:
        response = await client.complete(request, model=model)
        print(response.completions[0].completion, response.num_tokens_generated)
        async for item in client.complete_with_streaming(request, model=model):
            print(getattr(item, "completion", ""), end="", flush=True)


asyncio.run(main(*sys.argv[1:]))
