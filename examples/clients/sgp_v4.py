"""scale-gp: SGP_CLIENT_BASE_URL = status.urls.ScaleEGP, SGP_API_KEY = a key. Arguments: MODEL PROMPT"""

import sys

from scale_gp import SGPClient

model, prompt = sys.argv[1:]
client = SGPClient(account_id="example")
parameters = {"temperature": 0, "max_tokens": 32}
found = client.completions.create(model=model, prompt=prompt, model_parameters=parameters)
print(found.completion.text, found.token_usage.completion)

for chunk in client.completions.create(model=model, prompt=prompt, model_parameters=parameters, stream=True):
    print(chunk.completion["text"], end="", flush=True)
