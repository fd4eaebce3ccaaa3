/* The configuration of a training run: a TOML or JSON file and settings on top of it.
 *
 * One table in config.c gives each key its section, type, default, range and one line
 * of help; reading, checking, `--set`, the copy kept beside the checkpoints and
 * docs/training.md all follow it. */
#ifndef JT_CONFIG_H
#define JT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/status.h"

/* [model]: sizes of a fresh model. With `init` the model comes from that file instead
 * and the sizes have no meaning; "" is none for strings. */
typedef struct jt_config_model {
    const char *init;   /* GGUF to go on from */
    const char *family; /* "junto", or another one to be read by other tools too */
    const char *name;   /* general.name */
    int layers, dense_layers; /* the first dense_layers have no experts */
    int width, heads, kv_heads,
        head_dim;  /* 0: kv_heads = heads, head_dim = width / heads */
    int ffn_width; /* of dense layers; 0: none are dense */
    int experts, experts_used, expert_width; /* experts 0: a dense model */
    int shared_width;                        /* 0: no shared expert */
    int context;                             /* trained length; 0: that of the data */
    int vocab; /* rows of the embedding; 0: size of the tokenizer */
    double rope_base, norm_eps, init_std; /* init_std 0: 1 / sqrt(input width) */
    bool tied;                            /* output = embedding */
} jt_config_model;

/* [router]: the slots of every mixture layer. */
typedef struct jt_config_router {
    const char *score; /* "linear", "cosine", "random" (linear, never trained) */
    const char
        *select; /* "topk", "top_p", "grouped", "group_limited", "expert_choice" */
    const char *gating; /* "softmax", "sigmoid" */
    bool gate_after, renormalise, ahead;
    double scale, temperature, top_p, jitter, noise;
    int groups, groups_used, null_experts;
    double capacity;  /* 0: dropless */
    const char *drop; /* "score": the lowest are dropped; "position": the last */
    int used_from; /* experts used at the first step, rising in a line to experts_used
                      at the last (SMoE-Dropout); 0: always experts_used */
} jt_config_router;

/* [balance]: what keeps the experts evenly loaded. Zeros are off. */
typedef struct jt_config_balance {
    double loss;       /* coefficient of E * sum f P */
    const char *scope; /* of f: "sequence", "micro", "global" */
    double micro_loss; /* a second term of scope "micro" beside it (Demons) */
    bool null_mean;    /* null experts share their mean f (AdaMoE) */
    double z_loss;
    double bias_rate; /* step of the selection bias after each step (loss-free) */
    int bip_rounds;   /* dual rounds before each selection (BIP) */
} jt_config_balance;

typedef struct jt_config_source {
    const char *path, *domain, *separator; /* separator NULL: not given */
    double weight;
} jt_config_source;

/* [data] and [[data.source]]; paths are relative to the configuration file. */
typedef struct jt_config_data {
    const char *tokenizer; /* GGUF with a vocabulary; "" with token files only */
    int seq_len;
    double held_out;
    int most;
    const char *chat;
    int64_t seed; /* -1: that of [train] */
    jt_config_source *source;
    size_t n_sources;
} jt_config_data;

typedef struct jt_config_group {
    const char *pattern, *kind;    /* kind "": that of [optim] */
    double lr_scale, weight_decay; /* weight_decay -1: that of [optim] */
    bool frozen;
} jt_config_group;

/* [optim] and [[optim.group]]: the first group that matches a parameter has it; all
 * others have what stands in [optim], vectors (norms, biases) without weight decay. */
typedef struct jt_config_optim {
    const char *kind, *schedule;
    double lr, final_lr, weight_decay, beta1, beta2, eps, momentum, clip;
    bool nesterov;
    int64_t warmup, decay_steps;
    jt_config_group *group;
    size_t n_groups;
} jt_config_optim;

/* [[adapter.part]]: an adapter that is mixed. */
typedef struct jt_config_part {
    const char *path;   /* "": a fresh one */
    const char *source; /* the domain whose tokens are its own; "": that with the same
                           number */
    const char *marker; /* phi-4: the text that calls it */
} jt_config_part;

/* [adapter]: instead of the model of model.init an adapter for it is trained. */
typedef struct jt_config_adapter {
    const char *kind;   /* "none": the model itself; a kind of adapter; or a method that
                           mixes LoRAs */
    const char *init;   /* an adapter to go on from, or "" */
    const char *target; /* an expression: which weights */
    const char *place;  /* likewise: where layers of its own stand */
    const char *mask;   /* shira: "magnitude", "random", "struct", "gradient", "snip" */
    int mask_batches;   /* by gradients of so many */
    int rank;
    double alpha;
    /* Of routed mixtures ("mixlora", "meteora", "lora-mixer", "x-lora", "phi-4"): */
    int experts, top_k;                 /* top_k 0: as the method has it */
    double temperature;                 /* of what decides */
    double balance, gate_loss, entropy; /* coefficients of losses on it */
    int choose, shortlist;              /* of adapter.part; 0: all */
    bool train_experts;                 /* not only what decides */
    int head_depth, head_width;         /* x-lora; width 0: that of the model */
    bool layerwise;                     /* x-lora: weights for each layer */
    jt_config_part *part;               /* [[adapter.part]] */
    size_t n_parts;
    const char *marker;     /* p-adapter: ends a prompt */
    int front;              /* soft-prompt, prefix: virtual tokens */
    const char *text;       /* that they begin as; "": any tokens */
    const char *activation; /* bottleneck: "silu", "gelu" */
    bool gated;
    int keep_from;           /* mixda: the first source that is kept; 0: none */
    double keep;             /* likewise */
    int splits;              /* mosa */
    double agree;            /* likewise */
    int shards, budget, own; /* mos */
    const char *tables;
    int skills, heads; /* poly */
    bool sampled, only_routing;
    bool grow; /* mora */
    int bits;
    int active; /* mora; 0: rank */
    double heat, threshold;
} jt_config_adapter;

/* [train] */
typedef struct jt_config_train {
    int64_t steps, seed;
    int batch, accumulate; /* sequences of a micro-batch; micro-batches of a step */
    int threads;           /* 0: all */
    const char *cpu;       /* kernels: "" chooses */
    const char *precision; /* "f32"; "bf16": products of BF16 values, sums in F32 */
    bool checkpoint_activations;
} jt_config_train;

/* [eval] */
typedef struct jt_config_eval {
    int64_t every; /* steps; 0: only at the end */
    int batches;   /* micro-batches of each source; 0: all of the held-out data */
    int patience;  /* stop after so many without a better loss; 0: never */
} jt_config_eval;

/* [output] */
typedef struct jt_config_output {
    const char *dir;
    int64_t save_every; /* steps; 0: only at the end */
    const char *type;   /* of the matrices in DIR/model.gguf: "F32", "Q8_0", ... */
} jt_config_output;

typedef struct jt_config {
    jt_config_model model;
    jt_config_router router;
    jt_config_balance balance;
    jt_config_data data;
    jt_config_adapter adapter;
    jt_config_optim optim;
    jt_config_train train;
    jt_config_eval eval;
    jt_config_output output;
    void *memory; /* the texts and arrays */
} jt_config;

/* Read `path` (TOML, or JSON when the name ends so), then apply `settings`
 * ("train.steps=100", "data.source.0.weight=2"; a value is TOML, or a bare word).
 * Relative paths in the file are made relative to its folder, those in settings stay.
 * Errors name the file and line or the setting: JT_E_IO, JT_E_FORMAT (syntax),
 * JT_E_ARG (unknown key, with the nearest known one; wrong type; out of range; keys
 * that contradict each other), JT_E_MEMORY. */
jt_status jt_config_read(jt_config *out, const char *path, const char *const *settings,
                         size_t n_settings, jt_err *err);
/* The same from JSON text in memory; paths stay as they are. */
jt_status jt_config_parse(jt_config *out, const char *json, const char *const *settings,
                          size_t n_settings, jt_err *err);
/* Whichever of both is given, the path first. */
jt_status jt_config_open(jt_config *out, const char *path, const char *json,
                         const char *const *settings, size_t n_settings, jt_err *err);
void jt_config_free(jt_config *config); /* {0} is fine */

/* Every key with its value as JSON: what jt_config_parse reads back. The caller frees;
 * NULL without memory. */
char *jt_config_json(const jt_config *config);

#endif
