"""Models that transformers has no class for, from the formulas of their published code.

One small decoder in which each family sets what it has; its parameters are named as in
transformers, so that gguf_views and make_models treat it like any other model.

    deepseek     DeepSeekMoE 16B: modeling_deepseek.py of the checkpoint
    bailing_moe  Ling-lite and -plus: modeling_bailing_moe.py of the checkpoint
    bailing_moe_v2  Ling 2.0: modeling_bailing_moe_v2.py of the checkpoint
    grok1        Grok-1: model.py of the release (JAX)
    grok2        Grok-2: as SGLang runs it (python/sglang/srt/models/grok.py): weights are
                 not renormalised, router logits are capped
    arctic       Snowflake Arctic: modeling_arctic.py of the checkpoint
    pangu_pro_moe  Pangu Pro MoE: as vllm-ascend runs it (models/pangu_moe.py)
"""

import types

import torch
from torch import nn
from torch.nn import functional as F


class Config(types.SimpleNamespace):
    """Settings; what a family does not set is None."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return None


USUAL = dict(
    rms_norm_eps=1e-6, scoring="softmax", act="silu", num_experts_per_tok=0,
    first_k_dense_replace=0, routed_scaling_factor=1.0)
FAMILIES = {
    "deepseek": dict(norm_topk_prob=False),
    "bailing_moe": dict(norm_topk_prob=True),
    "bailing_moe_v2": dict(norm_topk_prob=True, scoring="sigmoid", correction=True,
                           qk_norm=True, fused_qkv=True),
    "grok1": dict(norm_topk_prob=False, act="gelu", post_norms=True,
                  embedding_multiplier=78.38367176906169,
                  output_multiplier=0.5773502691896257,
                  attention_multiplier=0.08838834764831845, attn_softcap=30.0),
    "grok2": dict(norm_topk_prob=False, act="gelu", post_norms=True,
                  residual="shared"),
    "arctic": dict(norm_topk_prob=True, residual="beside"),
    "pangu_pro_moe": dict(norm_topk_prob=False, per_group=True, expert_scale=True,
                          bias=True),
}


def config_for(kind, settings):
    return Config(**(USUAL | FAMILIES[kind] | settings | dict(model_type=kind)))


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rotated(x, dims, theta):
    """Halves of the first `dims` values of each head turned. x: [tokens, heads, dim]"""
    angles = torch.arange(len(x))[:, None] * theta ** -(torch.arange(0, dims, 2) / dims)
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    a, b = x[..., :dims // 2], x[..., dims // 2:dims]
    return torch.cat([a * cos - b * sin, a * sin + b * cos, x[..., dims:]], dim=-1)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.dim = c.head_dim or c.hidden_size // c.num_attention_heads
        self.counts = [c.num_attention_heads, c.num_key_value_heads,
                       c.num_key_value_heads]
        rows = [n * self.dim for n in self.counts]
        linear = lambda n, out: nn.Linear(n, out, bias=bool(c.bias))
        if c.fused_qkv:
            self.qkv_proj = linear(c.hidden_size, sum(rows))
        else:
            self.q_proj, self.k_proj, self.v_proj = (linear(c.hidden_size, n)
                                                     for n in rows)
        self.o_proj = linear(rows[0], c.hidden_size)
        if c.qk_norm:
            self.q_norm = RMSNorm(self.dim, c.rms_norm_eps)
            self.k_norm = RMSNorm(self.dim, c.rms_norm_eps)

    def forward(self, x):
        c, tokens = self.c, len(x)
        if c.fused_qkv:
            qkv = self.qkv_proj(x).split([n * self.dim for n in self.counts], dim=-1)
        else:
            qkv = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        q, k, v = (t.view(tokens, n, self.dim) for t, n in zip(qkv, self.counts))
        if c.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        rope = c.rope_parameters
        dims = int(self.dim * rope.get("partial_rotary_factor", 1.0))
        q, k = (rotated(t, dims, rope["rope_theta"]) for t in (q, k))
        k, v = (t.repeat_interleave(self.counts[0] // self.counts[1], dim=1)
                for t in (k, v))
        scores = torch.einsum("qhd,khd->hqk", q, k)
        scores = scores * (c.attention_multiplier or self.dim ** -0.5)
        if c.attn_softcap:
            scores = c.attn_softcap * torch.tanh(scores / c.attn_softcap)
        future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(future, float("-inf")).softmax(-1)
        return self.o_proj(torch.einsum("hqk,khd->qhd", scores, v).reshape(tokens, -1))


def activation(c):
    return F.silu if c.act == "silu" else lambda x: F.gelu(x, approximate="tanh")


class MLP(nn.Module):
    def __init__(self, c, width):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, width, bias=False)
        self.up_proj = nn.Linear(c.hidden_size, width, bias=False)
        self.down_proj = nn.Linear(width, c.hidden_size, bias=False)
        self.act = activation(c)

    def forward(self, x):
        return self.down_proj(self.act(self.gate_proj(x)) * self.up_proj(x))


class Gate(nn.Module):
    """Gives (logits, weights, experts), as transformers' routers do."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        self.weight = nn.Parameter(torch.zeros(c.num_experts, c.hidden_size))
        if c.correction:
            self.e_score_correction_bias = nn.Parameter(torch.zeros(c.num_experts))

    def choose(self, scores):
        c = self.c
        if c.per_group:  # the best of each of k groups
            groups = scores.view(len(scores), c.num_experts_per_tok, -1)
            first = torch.arange(groups.shape[1]) * groups.shape[2]
            return groups.argmax(-1) + first
        values = scores + self.e_score_correction_bias if c.correction else scores
        if c.n_group and c.n_group > 1:
            groups = values.view(len(values), c.n_group, -1)
            best = groups.topk(2, dim=-1).values.sum(-1)
            kept = torch.zeros_like(best).scatter(
                1, best.topk(c.topk_group, dim=-1).indices, 1)
            values = (groups.masked_fill(kept[..., None] == 0, float("-inf"))
                      .view(len(values), -1))
        return values.topk(c.num_experts_per_tok, dim=-1).indices

    def forward(self, x):
        c = self.c
        logits = F.linear(x, self.weight)
        if c.router_softcap:
            logits = c.router_softcap * torch.tanh(logits / c.router_softcap)
        scores = logits.softmax(-1) if c.scoring == "softmax" else logits.sigmoid()
        experts = self.choose(scores)
        weights = scores.gather(1, experts)
        if c.norm_topk_prob:
            weights = weights / weights.sum(-1, keepdim=True)
        return logits, weights * c.routed_scaling_factor, experts


class Experts(nn.Module):
    def __init__(self, c):
        super().__init__()
        n, width, inner = c.num_experts, c.hidden_size, c.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.zeros(n, 2 * inner, width))
        self.down_proj = nn.Parameter(torch.zeros(n, width, inner))
        self.act = activation(c)

    def forward(self, x, weights, experts):
        y = torch.zeros_like(x)
        for token in range(len(x)):
            for weight, e in zip(weights[token], experts[token]):
                gate, up = F.linear(x[token], self.gate_up_proj[e]).chunk(2, dim=-1)
                y[token] += weight * F.linear(self.act(gate) * up, self.down_proj[e])
        return y


class Mixture(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate, self.experts = Gate(c), Experts(c)
        if c.n_shared_experts:
            self.shared_experts = MLP(c, c.n_shared_experts * c.moe_intermediate_size)
        self.router_scale = (nn.Parameter(torch.ones(c.num_experts))
                             if c.expert_scale else None)

    def forward(self, x):
        _, weights, experts = self.gate(x)
        if self.router_scale is not None:
            weights = weights * self.router_scale[experts]
        y = self.experts(x, weights, experts)
        return y + self.shared_experts(x) if hasattr(self, "shared_experts") else y


class Layer(nn.Module):
    def __init__(self, c, index):
        super().__init__()
        self.c = c
        norm = lambda: RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.input_layernorm, self.self_attn = norm(), Attention(c)
        self.post_attention_layernorm = norm()
        mixture = index >= c.first_k_dense_replace
        self.mlp = Mixture(c) if mixture else MLP(c, c.intermediate_size)
        if c.post_norms:
            self.post_self_attn_layernorm, self.post_mlp_layernorm = norm(), norm()
        if c.residual:
            self.residual_mlp = MLP(c, c.intermediate_size)
        if c.residual == "beside":
            self.residual_layernorm = norm()

    def forward(self, h):
        c, before = self.c, h
        y = self.self_attn(self.input_layernorm(h))
        h = h + (self.post_self_attn_layernorm(y) if c.post_norms else y)
        if c.residual == "beside":
            h = h + self.residual_mlp(self.residual_layernorm(h))
            return h + self.mlp(self.post_attention_layernorm(before))
        x = self.post_attention_layernorm(h)
        y = self.mlp(x)
        if c.residual == "shared":
            y = (y + self.residual_mlp(x)) / 2 ** 0.5
        return h + (self.post_mlp_layernorm(y) if c.post_norms else y)


class Body(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(Layer(c, i) for i in range(c.num_hidden_layers))
        self.norm = RMSNorm(c.hidden_size, c.rms_norm_eps)


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config, self.model = config, Body(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, tokens):
        c = self.config
        h = self.model.embed_tokens(tokens[0]) * (c.embedding_multiplier or 1.0)
        for layer in self.model.layers:
            h = layer(h)
        logits = self.lm_head(self.model.norm(h)) * (c.output_multiplier or 1.0)
        if c.final_softcap:
            logits = c.final_softcap * torch.tanh(logits / c.final_softcap)
        return types.SimpleNamespace(logits=logits[None])
