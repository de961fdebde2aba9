import os

from aleph_alpha_client import Client, CompletionRequest, Prompt

client = Client(token=os.environ["ALEPH_ALPHA_TOKEN"], host=os.environ["ALEPH_ALPHA_HOST"])

request = CompletionRequest(
    prompt=Prompt.from_text("Write a creative story about:"),
    maximum_tokens=200,
    temperature=0.8,
    top_p=0.9,
    n=3,
    stop_sequences=["\n\n", "THE END"],
    presence_penalty=0.1,
    frequency_penalty=0.1,
)
response = client.complete(request, model="luminous-extended")

for i, completion in enumerate(response.completions):
    print(f"Completion {i + 1}: {completion.completion}")
    print(f"Finish reason: {completion.finish_reason}")
