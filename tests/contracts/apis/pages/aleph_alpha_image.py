import os

from aleph_alpha_client import Client, CompletionRequest, Image, Prompt, Text

client = Client(token=os.environ["ALEPH_ALPHA_TOKEN"], host=os.environ["ALEPH_ALPHA_HOST"])

image = Image.from_file("image.jpg")
multimodal_prompt = Prompt([Text.from_text("Describe this image in detail:"), image])

request = CompletionRequest(prompt=multimodal_prompt, maximum_tokens=150, temperature=0.5)
response = client.complete(request, model="luminous-extended")
print(response.completions[0].completion)
