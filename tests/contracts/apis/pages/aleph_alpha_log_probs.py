import os

from aleph_alpha_client import Client, CompletionRequest, Prompt

client = Client(token=os.environ["ALEPH_ALPHA_TOKEN"], host=os.environ["ALEPH_ALPHA_HOST"])

request = CompletionRequest(
    prompt=Prompt.from_text("The capital of France is"),
    maximum_tokens=10,
    temperature=0.0,
    log_probs=5,
    echo=True,
)
response = client.complete(request, model="luminous-extended")

completion = response.completions[0]
if completion.log_probs:
    for token_logprobs in completion.log_probs:
        print(f"Token probabilities: {token_logprobs}")
