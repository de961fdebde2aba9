"""Train a tiny Llama until it knows one page of text by heart, and prove that it does.

Runs inside the CPU engine image, which has torch and transformers:  python3 train.py PAGE OUTPUT
OUTPUT becomes an ordinary Hugging Face model directory. Fails when the page does not come back word for word.
"""

import re
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 2048
CONTEXT_TOKENS = 2048
STEPS = 600
# Short windows make the model continue from anywhere; long ones, up to the whole page, make it go on to the end.
WINDOWS = ((48, 32), (16, 96), (4, 384), (1, None))  # how many at once, tokens of each
PEAK_LEARNING_RATE = 3e-3
# What is proved: continuations from this many places, spread evenly over the page, and the whole page from its start.
PLACES = 20
PROMPT_WORDS = 8
CONTINUATION_WORDS = 40

END = "<|end|>"
# A conversation is its messages put together, so that chat requests continue the page too.
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def main(page: Path, output: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    text = page.read_text(encoding="utf-8")
    tokenizer = train_tokenizer(text)
    tokens = torch.tensor(tokenizer.encode(text).ids)
    model = train_model(tokens, tokenizer.token_to_id(END))
    check(model, tokenizer, text)
    model.save_pretrained(output)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        model_max_length=CONTEXT_TOKENS,
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(output)
    for file in output.iterdir():
        file.chmod(0o644)  # save_pretrained writes the weights readable by their owner alone


def train_tokenizer(text: str) -> Tokenizer:
    """Byte-level BPE over the page: any other text can be encoded too, in more tokens."""
    tokenizer = Tokenizer(models.BPE())
    # With the prefix space a prompt cut out of the page has the tokens that it has within the page.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def train_model(tokens: torch.Tensor, end: int) -> LlamaForCausalLM:
    """tokens: the whole page, one dimension.  end: the token that follows the page's last one."""
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=3,
            num_attention_heads=4,  # heads of 32: vLLM's attention on CPUs does not take smaller ones
            num_key_value_heads=4,
            max_position_embeddings=CONTEXT_TOKENS,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=end,
        )
    )
    page = torch.cat([tokens, torch.tensor([end])])
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=STEPS)
    for step in range(STEPS):
        count, length = WINDOWS[step % len(WINDOWS)]
        length = length or len(page)
        starts = torch.randint(0, len(page) - length + 1, (count, 1))
        windows = page[starts + torch.arange(length)]
        # The first word of a prompt may begin where no token of the page does: learn to go on regardless.
        windows[:, 0] = torch.where(torch.rand(count) < 0.5, windows[:, 0], torch.randint(0, VOCABULARY, (count,)))
        loss = model(input_ids=windows, labels=windows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 50 == 49:
            print(f"step {step + 1} of {STEPS}: loss {loss.item():.3f}", flush=True)
    return model.eval()


def check(model: LlamaForCausalLM, tokenizer: Tokenizer, text: str) -> None:
    """Raises SystemExit when a greedy continuation leaves the page."""
    words = re.findall(r"\S+\s*", text)
    last = len(words) - PROMPT_WORDS - CONTINUATION_WORDS
    lengths = dict.fromkeys((last * place // (PLACES - 1) for place in range(PLACES)), CONTINUATION_WORDS)
    lengths[0] = len(words) - PROMPT_WORDS
    for start, length in lengths.items():
        prompt = "".join(words[start : start + PROMPT_WORDS]).rstrip()
        expected = "".join(words[start:][: PROMPT_WORDS + length]).removeprefix(prompt).rstrip()
        ids = torch.tensor([tokenizer.encode(prompt).ids])
        limit = len(tokenizer.encode(expected).ids) + 1
        said = tokenizer.decode(model.generate(ids, max_new_tokens=limit, do_sample=False)[0, ids.shape[1] :].tolist())
        if not said.startswith(expected):
            raise SystemExit(f"the model does not know the page: after {prompt!r} it says {said!r}, not {expected!r}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
