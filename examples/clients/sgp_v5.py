"""scale-gp-beta: SGP_CLIENT_BASE_URL = status.urls.ScaleEGP, SGP_API_KEY = a key. Arguments: MODEL PROMPT"""

import sys

from scale_gp_beta import SGPClient

model, prompt = sys.argv[1:]
client = SGPClient(account_id="example")
found = client.completions.create(model=model, prompt=prompt, max_tokens=32, temperature=0)
print(found.choices[0].text, found.usage.completion_tokens)

for chunk in client.completions.create(model=model, prompt=prompt, max_tokens=32, temperature=0, stream=True):
    print(chunk.choices[0].text, end="", flush=True)
