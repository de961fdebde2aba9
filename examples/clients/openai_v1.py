"""openai: OPENAI_BASE_URL = status.urls.OpenAI, OPENAI_API_KEY = a key. Arguments: MODEL PROMPT"""

import sys

from openai import OpenAI

model, prompt = sys.argv[1:]
client = OpenAI()
completion = client.completions.create(model=model, prompt=prompt, max_tokens=32, temperature=0)
print(completion.choices[0].text, completion.usage.completion_tokens)

for chunk in client.completions.create(model=model, prompt=prompt, max_tokens=32, temperature=0, stream=True):
    print(chunk.choices[0].text, end="", flush=True)
