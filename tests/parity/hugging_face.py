"""Tiny GPT-2s of Hugging Face's own, and every value of their forward passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

# Threads that wait for each other cost more than models this small compute.
torch.set_num_threads(1)

SIZES: dict[str, Any] = {"n_layer": 2, "n_head": 3, "n_embd": 12, "n_positions": 8, "vocab_size": 20}


def tiny_model(**switches: Any) -> GPT2LMHeadModel:
    """A random model whose scores, gains and biases are large enough for every nonlinearity to count."""
    torch.manual_seed(0)
    config = GPT2Config(**(SIZES | {"bos_token_id": 0, "eos_token_id": 0} | switches))
    config._attn_implementation = "eager"
    model = GPT2LMHeadModel(config).eval()
    width = config.n_embd**-0.5
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(".bias"):
                weight.normal_(0, 0.3)
            elif ".ln_" in name:
                weight.normal_(1, 0.3)
            elif name.endswith(("wte.weight", "wpe.weight", "lm_head.weight")):
                weight.normal_(0, 1)
            else:
                # Queries and keys of size 2 an entry make scores between which the softmax chooses.
                weight.normal_(0, 2 * width if "c_attn" in name else width)
    return model


def run(
    model: GPT2LMHeadModel,
    tokens: torch.Tensor,
    mask: torch.Tensor,
    positions: torch.Tensor | None,
    off: dict[str, torch.Tensor] | None = None,
) -> dict[str, list[torch.Tensor]]:
    """All values of a forward pass, by name, one a layer.

    Args:
        tokens, mask, positions: [prompt tok].
        off: what to add to values, by `NAME.LAYER`: embedded, read1, qkv, mixed, attn_out, read2, pre, post, mlp_out,
            final.
    """
    seen: dict[str, list[torch.Tensor]] = {}
    with observed(model, seen, off or {}):
        out = model(
            input_ids=tokens,
            attention_mask=mask.long(),
            position_ids=positions,
            output_hidden_states=True,
            output_attentions=True,
            use_cache=False,
        )
    shape = (*tokens.shape, model.config.n_head, -1)
    heads = [[part.reshape(shape) for part in qkv.chunk(3, dim=-1)] for qkv in seen.pop("qkv")]
    q, k, v = map(list, zip(*heads, strict=True))
    return seen | {
        "q": q,
        "k": k,
        "v": v,
        "z": [mixed.reshape(shape) for mixed in seen.pop("mixed")],
        "resid_pre": list(out.hidden_states[:-1]),
        "pattern": list(out.attentions),
        "final": [out.hidden_states[-1]],
        "logits": [out.logits],
    }


@contextmanager
def observed(
    model: GPT2LMHeadModel, seen: dict[str, list[torch.Tensor]], off: dict[str, torch.Tensor]
) -> Iterator[None]:
    """Add to what goes into or out of modules, and collect it, while the context lasts."""

    def passed(name: str, layer: int, value: torch.Tensor) -> torch.Tensor:
        value = value + off.get(f"{name}.{layer}", 0)
        seen.setdefault(name, []).append(value)
        return value

    def output(name: str, layer: int = 0) -> Callable[..., Any]:
        def hook(_module: nn.Module, _given: Any, gave: Any) -> Any:
            rest = gave[1:] if isinstance(gave, tuple) else None
            value = passed(name, layer, gave if rest is None else gave[0])
            return value if rest is None else (value, *rest)

        return hook

    def given(name: str, layer: int) -> Callable[..., Any]:
        return lambda _module, args: (passed(name, layer, args[0]), *args[1:])

    handles = [model.transformer.drop.register_forward_hook(output("embedded"))]
    handles.append(model.transformer.ln_f.register_forward_hook(output("final")))
    for layer, block in enumerate(model.transformer.h):
        handles += [
            block.ln_1.register_forward_hook(output("read1", layer)),
            block.attn.c_attn.register_forward_hook(output("qkv", layer)),
            block.attn.c_proj.register_forward_pre_hook(given("mixed", layer)),
            block.attn.c_proj.register_forward_hook(output("attn_out", layer)),
            block.ln_2.register_forward_pre_hook(given("resid_mid", layer)),
            block.ln_2.register_forward_hook(output("read2", layer)),
            block.mlp.c_fc.register_forward_hook(output("pre", layer)),
            block.mlp.c_proj.register_forward_pre_hook(given("post", layer)),
            block.mlp.c_proj.register_forward_hook(output("mlp_out", layer)),
            block.register_forward_hook(output("resid_post", layer)),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
