"""scale-egp: EGP_ENDPOINT_URL = status.urls.ScaleEGP, EGP_API_KEY = a key. Arguments: MODEL PROMPT"""

import sys

from scale_egp.sdk.client import EGPClient
from scale_egp.sdk.types.completions import ModelParameters

model, prompt = sys.argv[1:]
client = EGPClient(account_id="example")
parameters = ModelParameters(temperature=0, max_tokens=32)
given = {"model": model, "prompt": prompt, "account_id": None, "model_parameters": parameters}
found = client.completions().create(**given)
print(found.completion.text, found.token_usage.completion)

for chunk in client.completions().stream(**given):
    print(chunk.completion.text, end="", flush=True)
