import os

from aleph_alpha_client import Client, CompletionRequest, Prompt

client = Client(token=os.environ["ALEPH_ALPHA_TOKEN"], host=os.environ["ALEPH_ALPHA_HOST"])

request = CompletionRequest(prompt=Prompt.from_text("The future of AI is"), maximum_tokens=50, temperature=0.7)
response = client.complete(request, model="luminous-extended")
print(response.completions[0].completion)
