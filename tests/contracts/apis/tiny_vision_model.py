"""Writes a LLaVA with random weights into a directory; run by the Python that has vLLM. An image takes four tokens.

    python tiny_vision_model.py DIRECTORY

The weights are larger than those that training begins with: what is said hangs on what is seen.
"""

import string
import sys

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

IMAGE_TOKEN = "<image>"
PATCH_PIXELS = 14
IMAGE_PIXELS = 28
SPREAD = 0.2
# The parts of a message in their order: with one that takes a message for a string, vLLM puts images first.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)


def main(directory: str) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # ASCII as that pre-tokenizer spells it: whatever tokens come, they are text, not halves of characters.
    alphabet = [*string.digits, *string.ascii_letters, *string.punctuation, "Ġ"]
    special = ["<s>", "</s>", IMAGE_TOKEN]
    trainer = trainers.BpeTrainer(vocab_size=512, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["the harbour master counts the ships"], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", chat_template=TEMPLATE
    )
    size = {"height": IMAGE_PIXELS, "width": IMAGE_PIXELS}
    LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": IMAGE_PIXELS}, crop_size=size),
        tokenizer=fast,
        patch_size=PATCH_PIXELS,
        vision_feature_select_strategy="default",
        image_token=IMAGE_TOKEN,
        chat_template=TEMPLATE,
        num_additional_image_tokens=1,
    ).save_pretrained(directory)
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=IMAGE_PIXELS,
        patch_size=PATCH_PIXELS,
        projection_dim=64,
    )
    text = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=SPREAD,
    )
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=special.index(IMAGE_TOKEN))
    config.initializer_range = SPREAD
    config.architectures = ["LlavaForConditionalGeneration"]
    config.save_pretrained(directory)
    weights = LlavaForConditionalGeneration(config).to(torch.bfloat16).state_dict()
    # As in published checkpoints, which is what vLLM reads; this transformers has a level less.
    named = {
        name.replace("model.vision_tower.", "vision_tower.vision_model."): value for name, value in weights.items()
    }
    save_file(named, f"{directory}/model.safetensors", {"format": "pt"})


if __name__ == "__main__":
    main(sys.argv[1])
