import asyncio

from llmengine import Completion


async def main():
    response = await Completion.acreate(
        model="llama-7b",
        prompt="Hello, my name is",
        max_new_tokens=10,
        temperature=0.2,
    )
    print(response.json())


asyncio.run(main())
