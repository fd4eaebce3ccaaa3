#include <limits.h>

#include "learn/config_impl.h"

/* Sizes beyond these are mistakes; products of any two still fit 64 bits. */
#define MAX_WIDTH 1048576
#define MAX_STEPS 1e9

#define INT(type, field, default_, min_, max_, help_)                           \
    {                                                                           \
        .name = #field, .kind = JT_CONFIG_INT, .offset = offsetof(type, field), \
        .initial = default_, .min = min_, .max = max_, .help = help_            \
    }
#define LONG(type, field, default_, min_, max_, help_)                           \
    {                                                                            \
        .name = #field, .kind = JT_CONFIG_LONG, .offset = offsetof(type, field), \
        .initial = default_, .min = min_, .max = max_, .help = help_             \
    }
#define REAL(type, field, default_, min_, max_, help_)                           \
    {                                                                            \
        .name = #field, .kind = JT_CONFIG_REAL, .offset = offsetof(type, field), \
        .initial = default_, .min = min_, .max = max_, .help = help_             \
    }
#define BOOL(type, field, default_, help_)                                       \
    {                                                                            \
        .name = #field, .kind = JT_CONFIG_BOOL, .offset = offsetof(type, field), \
        .initial = default_, .help = help_                                       \
    }
#define TEXT(type, field, default_, help_)                                       \
    {                                                                            \
        .name = #field, .kind = JT_CONFIG_TEXT, .offset = offsetof(type, field), \
        .initial = default_, .help = help_                                       \
    }
#define PATH(type, field, default_, help_)                                       \
    {                                                                            \
        .name = #field, .kind = JT_CONFIG_PATH, .offset = offsetof(type, field), \
        .initial = default_, .help = help_                                       \
    }
#define CHOICE(type, field, default_, choices_, help_)                             \
    {                                                                              \
        .name = #field, .kind = JT_CONFIG_CHOICE, .offset = offsetof(type, field), \
        .initial = default_, .choices = choices_, .help = help_                    \
    }

#define M jt_config_model
static const jt_config_key model_keys[] = {
    PATH(M, init, "", "GGUF to go on from; the sizes below then have no meaning"),
    TEXT(
        M, family, "junto",
        "architecture written into the file; one of another tool (\"llama\", "
        "\"qwen3moe\", ...) lets that tool read the model, as far as it has the parts"),
    TEXT(M, name, "junto", "name of the model, written into the file"),
    INT(M, layers, "4", 1, 1000, "layers"),
    INT(M, dense_layers, "0", 0, 1000, "the first so many layers have no experts"),
    INT(M, width, "128", 1, MAX_WIDTH, "values per token between the layers"),
    INT(M, heads, "4", 1, 4096, "heads of attention"),
    INT(M, kv_heads, "0", 0, 4096,
        "heads of keys and values, a divisor of heads; 0: as many as heads"),
    INT(M, head_dim, "0", 0, 8192, "values per head, even; 0: width / heads"),
    INT(M, ffn_width, "0", 0, MAX_WIDTH,
        "inner width of the feed-forward block of dense layers"),
    INT(M, experts, "8", 0, 65536, "experts of a layer; 0: a dense model"),
    INT(M, experts_used, "2", 1, 65536, "experts that work on each token"),
    INT(M, expert_width, "64", 1, MAX_WIDTH, "inner width of an expert"),
    INT(M, shared_width, "0", 0, MAX_WIDTH,
        "inner width of an expert that works on every token; 0: there is none"),
    INT(M, context, "0", 0, 1 << 24,
        "tokens of context that the model is said to know; 0: data.seq_len"),
    INT(M, vocab, "0", 0, 1 << 24,
        "rows of the embedding; 0: as many as the tokenizer has tokens"),
    REAL(M, rope_base, "10000", 1, 1e12, "base of the rotary positions"),
    REAL(M, norm_eps, "1e-5", 0, 1, "added to the mean square in norms"),
    REAL(M, init_std, "0", 0, 10,
         "deviation of the first weights; 0: 1 / sqrt(input width)"),
    BOOL(M, tied, "true", "the output matrix is the embedding"),
    {0}};

#define R jt_config_router
static const jt_config_key router_keys[] = {
    CHOICE(R, score, "linear", "linear|cosine|random",
           "how experts are scored; random: linear and never trained"),
    CHOICE(R, select, "topk", "topk|top_p|grouped|group_limited|expert_choice",
           "how experts are chosen from their scores"),
    CHOICE(R, gating, "softmax", "softmax|sigmoid", "what makes scores of logits"),
    BOOL(R, gate_after, "false", "gate over the chosen experts instead of over all"),
    BOOL(R, renormalise, "true", "divide the weights of a token by their sum"),
    REAL(R, scale, "1", 1e-6, 1e6, "then multiply them by this"),
    BOOL(
        R, ahead, "false",
        "choose the experts of a layer from what the mixture before it read (Pre-gated "
        "MoE); the first one chooses from its own"),
    REAL(R, temperature, "0.3", 1e-6, 1e6, "cosine: logits are divided by it"),
    REAL(R, top_p, "0.4", 1e-6, 1,
         "top_p: a token takes experts until their scores sum to this"),
    REAL(R, jitter, "0", 0, 0.999,
         "in training the router's input is multiplied by 1 +- up to this"),
    REAL(R, noise, "0", 0, 1e6, "deviation of noise on the logits in training"),
    INT(R, groups, "0", 0, 65536, "grouped, group_limited: groups of experts"),
    INT(R, groups_used, "0", 0, 65536,
        "group_limited: groups that a token may choose from"),
    INT(R, null_experts, "0", 0, 65536, "experts that do nothing (AdaMoE)"),
    REAL(R, capacity, "0", 0, 1e6,
         "an expert takes at most this times its fair share of a micro-batch; 0: all "
         "that come"),
    CHOICE(R, drop, "score", "score|position",
           "beyond the capacity the lowest scores are dropped, or the last tokens"),
    INT(R, used_from, "0", 0, 65536,
        "experts used at the first step, rising in a line to model.experts_used at the "
        "last (SMoE-Dropout); 0: always model.experts_used"),
    {0}};

#define B jt_config_balance
static const jt_config_key balance_keys[] = {
    REAL(B, loss, "0.01", 0, 1e6, "coefficient of the balance loss; 0: none"),
    CHOICE(B, scope, "global", "sequence|micro|global",
           "tokens over which the loss counts loads: each sequence, each micro-batch, "
           "all of a step"),
    REAL(B, micro_loss, "0", 0, 1e6,
         "coefficient of a second balance loss of scope micro"),
    BOOL(B, null_mean, "false", "null experts share their mean load (AdaMoE)"),
    REAL(B, z_loss, "0.001", 0, 1e6,
         "coefficient of the loss that keeps logits small; 0: none"),
    REAL(B, bias_rate, "0", 0, 1e6,
         "step of the selection bias after each step (loss-free balancing); 0: none"),
    INT(B, bip_rounds, "0", 0, 1000,
        "dual rounds before each selection (BIP); 0: none; not with bias_rate"),
    {0}};

#define D jt_config_data
static const jt_config_key data_keys[] = {
    PATH(D, tokenizer, "",
         "GGUF with the vocabulary; not needed with model.init, or for token files"),
    INT(D, seq_len, "256", 2, 1 << 24, "tokens of a sequence"),
    REAL(D, held_out, "0.05", 0, 0.5,
         "share of each source's documents that is kept for evaluation"),
    INT(D, most, "0", 0, INT_MAX,
        "training documents of each source, the first ones; 0: all"),
    TEXT(D, chat, "chatml", "format of the messages in JSON lines"),
    LONG(D, seed, "-1", -1, (double)INT64_MAX,
         "of the order of the data; -1: train.seed"),
    {0}};

#define S jt_config_source
static const jt_config_key source_keys[] = {
    PATH(S, path, "", "JSON lines (.jsonl), tokens (.npy, .bin), or text"),
    TEXT(S, domain, NULL, "its name in logs; without: the name of the file"),
    TEXT(S, separator, NULL,
         "text: the line that divides documents (\"\": an empty one), without: one "
         "document; tokens: the number of the end token"),
    REAL(S, weight, "0", 0, 1e9,
         "share of the training tokens, before normalising; give all sources one, or "
         "none: then shares go by size"),
    {0}};

#define O     jt_config_optim
#define KINDS "adamw|adafactor|sgd|muon"
static const jt_config_key optim_keys[] = {
    CHOICE(O, kind, "adamw", KINDS, "the optimiser"),
    REAL(O, lr, "1e-3", 0, 1e6, "learning rate after the warm-up"),
    CHOICE(O, schedule, "cosine", "constant|linear|cosine|wsd",
           "how the rate falls after the warm-up; wsd: stays, then falls in a line"),
    REAL(O, final_lr, "-1", -1, 1e6, "rate of the last step; -1: lr / 10"),
    LONG(O, warmup, "-1", -1, MAX_STEPS,
         "steps in which the rate rises; -1: one in twenty of train.steps"),
    LONG(O, decay_steps, "-1", -1, MAX_STEPS,
         "wsd: last steps in which it falls; -1: one in five of train.steps"),
    REAL(O, weight_decay, "0.1", 0, 1e6, "of matrices; vectors have none"),
    REAL(O, beta1, "0.9", 0, 0.999999, "AdamW: memory of the mean gradient"),
    REAL(O, beta2, "0.95", 0, 0.999999, "AdamW: memory of its square"),
    REAL(O, eps, "0", 0, 1, "AdamW, Adafactor; 0: 1e-8, 1e-30"),
    REAL(O, momentum, "0", 0, 0.999999, "SGD, Muon; 0: none for SGD, 0.95 for Muon"),
    BOOL(O, nesterov, "false", "SGD, Muon: look ahead along the momentum"),
    REAL(O, clip, "1", 0, 1e12, "largest norm of all gradients together; 0: any"),
    {0}};

#define G jt_config_group
static const jt_config_key group_keys[] = {
    TEXT(G, pattern, "", "which parameters, by name: \"blk.*.ffn_gate_inp.weight\""),
    CHOICE(G, kind, "", KINDS, "their optimiser; without: optim.kind"),
    REAL(G, lr_scale, "1", 0, 1e6, "times the rate"),
    REAL(G, weight_decay, "-1", -1, 1e6, "-1: optim.weight_decay"),
    BOOL(G, frozen, "false", "they are never changed"),
    {0}};

#define A jt_config_adapter
static const jt_config_key adapter_keys[] = {
    CHOICE(A, kind, "none",
           "none|lora|rslora|dora|shira|mos|poly|bits|mora|bottleneck|mosa|mixda|p-"
           "adapter|soft-prompt|prefix|mixlora|meteora|"
           "lora-mixer|k-shot|x-lora|phi-4",
           "none: the model itself is trained; from mixlora on: LoRAs that are mixed "
           "token by token"),
    PATH(A, init, "",
         "an adapter to go on from; lora: from the A and B of any low-rank kind; poly: "
         "with fresh routing; mora: with fresh ranks beside those that are there"),
    TEXT(A, target,
         "attn_(q|k|v|qkv|output)[.]weight|ffn_(gate|up|down)(_exps|_shexp)?[.]weight",
         "expression: the weights that are changed, by name"),
    TEXT(A, place, "ffn[.]beside",
         "bottleneck: expression: where it stands, blk.N.attn or blk.N.ffn with "
         ".before, .beside or .after"),
    CHOICE(A, mask, "magnitude", "magnitude|random|struct|gradient|snip",
           "shira: which values of a weight; the largest, any, the diagonal and some "
           "rows, "
           "those with the largest gradients, or the largest products of both"),
    INT(A, mask_batches, "8", 1, 1 << 20,
        "shira: micro-batches whose gradients are looked at"),
    INT(A, rank, "16", 1, 65536,
        "of the change; shira: rank * (rows + columns) values of a matrix"),
    REAL(A, alpha, "32", 1e-6, 1e6,
         "the change is multiplied by alpha / rank (rslora: / root of the rank)"),
    INT(A, experts, "8", 1, 256,
        "mixtures: LoRAs in one, where adapter.part does not list them"),
    INT(A, top_k, "0", 0, 256,
        "LoRAs that a token gets; 0: mixlora, meteora, k-shot 2, lora-mixer 3, phi-4 "
        "1, "
        "x-lora all"),
    REAL(A, temperature, "1", 1e-6, 1e6, "logits of gates are divided by it"),
    REAL(A, balance, "0.01", 0, 1e6,
         "mixlora, lora-mixer: coefficient of the loss that evens their loads"),
    REAL(A, gate_loss, "1", 0, 1e6,
         "meteora: coefficient of the cross entropy of gates with the number of the "
         "source"),
    REAL(A, entropy, "0", -1e6, 1e6,
         "lora-mixer: coefficient of the entropy of a token's weights; above 0 lowers "
         "it"),
    INT(A, choose, "0", 0, 16,
        "of adapter.part so many are mixed, chosen by the documents of the first "
        "source "
        "(k-shot: the paper has 4); 0: all"),
    INT(A, shortlist, "0", 0, 256,
        "of those that do best on them; the least alike of the list are chosen; 0: "
        "twice as many as are chosen"),
    BOOL(A, train_experts, "false", "also the LoRAs of adapter.part are trained on"),
    INT(A, head_depth, "1", 1, 8, "x-lora: layers of the head"),
    INT(A, head_width, "0", 0, MAX_WIDTH,
        "x-lora: values between them; 0: as many as the model has"),
    BOOL(A, layerwise, "true", "x-lora: weights for each changed matrix by itself"),
    TEXT(A, marker, "",
         "p-adapter: text that ends a prompt; what comes before it is rewritten"),
    INT(A, front, "20", 1, 65536,
        "soft-prompt, prefix: virtual tokens; as many as adapter.init has"),
    TEXT(A, text, "",
         "soft-prompt, prefix: what they begin as, again and again; without: as any "
         "tokens of the vocabulary"),
    CHOICE(A, activation, "gelu", "silu|gelu", "bottleneck: between its layers"),
    BOOL(A, gated, "false", "bottleneck: with a gate (GLU)"),
    INT(A, keep_from, "0", 0, 999,
        "mixda: sources from this number on (the first is 0) are not learnt: on them "
        "layers shall give what they gave; 0: none"),
    REAL(A, keep, "2", 0, 1e6, "mixda: coefficient of the loss that sees to that"),
    INT(A, splits, "4", 1, 256, "mosa: experts that each matrix of it is split into"),
    REAL(A, agree, "1", 0, 1e6,
         "mosa: coefficient of what brings two draws of experts to the same answers"),
    INT(A, shards, "4", 1, 65536, "mos: pieces of a vector"),
    INT(A, budget, "2", 1, 65536,
        "mos: values are as many as those of a LoRA of this rank"),
    INT(A, own, "1", 0, 65536, "mos: of which each matrix has for itself"),
    CHOICE(A, tables, "apart", "apart|paired|same",
           "mos: A and B take other shards; the same ones; all matrices take the same"),
    INT(A, skills, "8", 1, 65536, "poly: of which each task takes its mixture"),
    INT(A, heads, "1", 1, 65536,
        "poly: parts of inputs and outputs that are mixed apart (MHR); 1: Poly"),
    BOOL(A, sampled, "false",
         "poly: weights are drawn in training (relaxed Bernoulli distribution)"),
    BOOL(A, only_routing, "false",
         "poly: skills stay as adapter.init has them (MHR-z)"),
    INT(A, bits, "1", 1, 8, "bits: of a value; 1, 2, 4 or 8"),
    INT(A, active, "0", 0, 65536, "mora: ranks that work on a token; 0: adapter.rank"),
    BOOL(A, grow, "true", "mora: fresh ranks beside those of adapter.init"),
    REAL(A, heat, "0.03", 1e-6, 1e6, "mora: temperature of their weights"),
    REAL(A, threshold, "0.2", -1, 1,
         "mora: outside of training, what activates a rank less is left out"),
    {0}};

#define Q jt_config_part
static const jt_config_key part_keys[] = {
    PATH(Q, path, "", "a LoRA; without: a fresh one, as all others then"),
    TEXT(Q, source, "", "domain whose tokens are its own; without: that of its number"),
    TEXT(Q, marker, "",
         "phi-4: text that calls it, as \"<image>\"; others: text after which tokens "
         "of a "
         "domain that is nobody's own are its own, until the next marker"),
    {0}};

#define T jt_config_train
static const jt_config_key train_keys[] = {
    LONG(T, steps, "1000", 1, MAX_STEPS, "steps of the whole run"),
    LONG(T, seed, "1", 0, (double)INT64_MAX, "of the first weights and of all noise"),
    INT(T, batch, "8", 1, 1 << 20, "sequences of a micro-batch"),
    INT(T, accumulate, "1", 1, 1 << 20, "micro-batches of a step"),
    INT(T, threads, "0", 0, 4096, "0: all processors"),
    TEXT(T, cpu, "",
         "kernels (scalar, avx2, avx512); without: the best that work here"),
    CHOICE(T, precision, "f32", "f32|bf16",
           "values that are multiplied; bf16: sums are still F32"),
    BOOL(T, checkpoint_activations, "false",
         "compute layers anew in the backward pass: less memory, more time"),
    {0}};

#define E jt_config_eval
static const jt_config_key eval_keys[] = {
    LONG(E, every, "100", 0, MAX_STEPS,
         "steps between evaluations; 0: at the end only"),
    INT(E, batches, "16", 0, INT_MAX,
        "micro-batches of each source; 0: all that is held out"),
    INT(E, patience, "0", 0, INT_MAX,
        "stop after so many evaluations without a better loss; 0: never"),
    {0}};

#define P jt_config_output
static const jt_config_key output_keys[] = {
    PATH(P, dir, "out", "folder of the run"),
    LONG(P, save_every, "500", 0, MAX_STEPS,
         "steps between checkpoints; 0: at the end only"),
    TEXT(P, type, "F32", "of the matrices in model.gguf: F32, BF16, F16, Q8_0, ..."),
    {0}};

#define SECTION(field, keys_, help_)                  \
    {                                                 \
        .name = #field, .keys = keys_, .help = help_, \
        .offset = offsetof(jt_config, field)          \
    }

const jt_config_section jt_config_sections[] = {
    SECTION(model, model_keys, "sizes of a fresh model"),
    SECTION(router, router_keys, "how every layer with experts chooses"),
    SECTION(balance, balance_keys, "what keeps the experts evenly loaded"),
    SECTION(data, data_keys, "what is learnt"),
    {.name = "data.source",
     .keys = source_keys,
     .help = "files, one or more",
     .offset = offsetof(jt_config, data.source),
     .item_bytes = sizeof(jt_config_source),
     .count_offset = offsetof(jt_config, data.n_sources),
     .most = 1000,
     .needed = true},
    SECTION(adapter, adapter_keys,
            "an adapter for the model of model.init is trained, and nothing else"),
    {.name = "adapter.part",
     .keys = part_keys,
     .help = "LoRAs that a mixture begins with",
     .offset = offsetof(jt_config, adapter.part),
     .item_bytes = sizeof(jt_config_part),
     .count_offset = offsetof(jt_config, adapter.n_parts),
     .most = 256},
    SECTION(optim, optim_keys, "how weights change"),
    {.name = "optim.group",
     .keys = group_keys,
     .help = "parameters that are treated apart; the first group that fits counts",
     .offset = offsetof(jt_config, optim.group),
     .item_bytes = sizeof(jt_config_group),
     .count_offset = offsetof(jt_config, optim.n_groups),
     .most = 1000},
    SECTION(train, train_keys, "how long, and with what"),
    SECTION(eval, eval_keys, "measuring on the way"),
    SECTION(output, output_keys, "what is kept"),
    {0}};
