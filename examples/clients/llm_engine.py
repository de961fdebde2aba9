"""scale-llm-engine: LLM_ENGINE_BASE_PATH = status.urls.LLMEngine, SCALE_API_KEY = a key. Arguments: MODEL PROMPT"""

import sys

from llmengine import Completion

model, prompt = sys.argv[1:]
response = Completion.create(model=model, prompt=prompt, max_new_tokens=32, temperature=0)
print(response.output.text, response.output.num_completion_tokens)

for response in Completion.create(model=model, prompt=prompt, max_new_tokens=32, temperature=0, stream=True):
    if response.output:
        print(response.output.text, end="", flush=True)
    else:
        sys.exit(f"the stream failed: {response.error}")
