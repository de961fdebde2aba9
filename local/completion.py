"""One plain and one streamed completion with the real OpenAI client: `python -m local.completion URL MODEL PAGE`.

Run where the cluster's names resolve (`python -m local` arranges it). Exits with 1 when the text is not the page's.
"""

import sys
from pathlib import Path

import openai

PROMPT_WORDS = 12
TOKENS = 32


def main(base_url: str, model: str, page: str) -> int:
    """base_url: `status.urls.OpenAI`.  page: what the test model has memorised."""
    client = openai.OpenAI(base_url=base_url, api_key="none", timeout=120)
    words = page.split(" ")
    ok = True
    for start, stream in ((0, False), (PROMPT_WORDS * 3, True)):
        prompt = " ".join(words[start : start + PROMPT_WORDS])
        print(f"\nPOST {base_url}/completions  model={model}  stream={str(stream).lower()}")
        print(f"  prompt: {prompt}")
        print("  answer:", end="", flush=True)
        text = ""
        if stream:
            for event in client.completions.create(
                model=model, prompt=prompt, max_tokens=TOKENS, temperature=0, stream=True
            ):
                piece = event.choices[0].text
                text += piece
                print(piece, end="", flush=True)
            print()
        else:
            text = (
                client.completions.create(model=model, prompt=prompt, max_tokens=TOKENS, temperature=0).choices[0].text
            )
            print(text)
        expected = page[page.index(prompt) + len(prompt) :][: len(text)]
        if text != expected or len(text) < TOKENS:
            print(f"  wrong: the model memorised{expected}", file=sys.stderr)
            ok = False
        else:
            print(f"  the text is the page's, {len(text)} characters")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_text()))
