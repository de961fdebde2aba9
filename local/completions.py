"""A plain and a streamed completion with the real client of each API: `python -m local.completions URLS MODEL PAGE`.

Runs examples/clients as they are, where the cluster's names resolve (`python -m local` arranges it). Exits with 1 when
a text is not the page's.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from local import clients

EXAMPLES = Path(__file__).parents[1] / "examples" / "clients"
KEY = "none"  # the endpoint of the demo needs no key, the clients want one

CLIENTS = {
    "OpenAI": ("openai_v1.py", "OPENAI_BASE_URL", "OPENAI_API_KEY"),
    "LLMEngine": ("llm_engine.py", "LLM_ENGINE_BASE_PATH", "SCALE_API_KEY"),
    "ScaleEGP": ("sgp_v4.py", "SGP_CLIENT_BASE_URL", "SGP_API_KEY"),
    "AlephAlpha": ("aleph_alpha.py", "ALEPH_ALPHA_HOST", "ALEPH_ALPHA_TOKEN"),
}
"""Example, and the variables for address and key, of the client of each API."""

PROMPT_WORDS = 12


def main(urls: str, model: str, page: str) -> int:
    """urls: `status.urls` as JSON.  page: what the test model has memorised."""
    prompt = " ".join(page.split(" ")[:PROMPT_WORDS])
    print(f"\nprompt: {prompt}")
    served = json.loads(urls)
    wrong = [api for api in CLIENTS if not complete(api, served[api], model, prompt, page)]
    if wrong:
        print(f"the text is not what the model memorised: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


def complete(api: str, url: str, model: str, prompt: str, page: str) -> bool:
    """Run the example of one API and print what it prints; whether that is the page's text, twice."""
    script, address, key = CLIENTS[api]
    python = sys.executable if api == "OpenAI" else clients.ensure_python()
    print(f"\n{api}: {address}={url} python examples/clients/{script}", flush=True)
    env = {**os.environ, address: url, key: KEY, "LLM_ENGINE_DISABLE_VERSION_CHECK": "1"}
    done = subprocess.run(
        [python, EXAMPLES / script, model, prompt], env=env, stdout=subprocess.PIPE, text=True, check=False
    )
    # The whole answer with the number of its tokens, then the streamed one.
    whole, _, streamed = done.stdout.partition(" 32\n")
    right = done.returncode == 0 and len(whole) > 32 and whole == streamed.rstrip("\n")
    right = right and page.startswith(prompt + whole)
    print(f"  whole:   {whole}\n  stream:  {streamed.rstrip()}")
    if right:
        print(f"  both are the page's text, {len(whole)} characters")
    return right


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_text()))
