/* What a client asks for: the body of a request to /v1/chat/completions or
 * /v1/completions, read and checked. Nothing here knows the model. */
#ifndef JT_ASK_H
#define JT_ASK_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "junto/generate.h"
#include "serve/problem.h"

enum {
    JT_ASK_STOPS = 16,
    JT_ASK_POLICIES = 16,
    JT_ASK_ADAPTERS = 16,
    JT_ASK_CHOICES = 16,
    JT_ASK_PROMPTS = 2048, /* as many as the reference takes */
    JT_ASK_BIASES = 300
};

typedef struct jt_ask {
    json_t *root; /* the whole; what follows is borrowed from it */
    bool chat;    /* messages; otherwise a prompt */
    const json_t *messages, *tools, *variables; /* of a chat; NULL where not given */
    const json_t *prompts; /* of a text: a list of texts and lists of tokens */
    bool stream, include_usage, ignore_end, trace;
    int n, max_tokens; /* -1: as far as it goes */
    int thinking_budget;
    jt_sampling sampling;
    long long seed; /* -1: any */
    const char *stop[JT_ASK_STOPS];
    const char *policy[JT_ASK_POLICIES];
    size_t n_stop, n_policies;
    const char *model; /* as it is named; NULL: not */
    const char *user;  /* for whom the client asks; NULL: not said */
    struct {
        const char *name;
        float weight;
    } adapter[JT_ASK_ADAPTERS];
    size_t n_adapters;
    const json_t *grammar;   /* a text in GBNF; NULL: none */
    const json_t *schema;    /* of the JSON that the reply is; NULL: none */
    const json_t *must_call; /* tools of which the reply calls one; NULL: it need not */
    bool parallel;           /* or several */
    bool logprobs;           /* of the tokens of the reply, */
    int n_top;               /* and so many of the likeliest ones */
    jt_logit_bias bias[JT_ASK_BIASES];
    size_t n_bias;
} jt_ask;

/* Read a JSON object of any bytes into *root, which the caller frees. False: the
 * problem is told; that holds for all functions here. */
bool jt_ask_json(json_t **root, const char *text, size_t len, jt_problem *problem);

/* Read a request, which is taken over. `usual`: what it does not say about sampling.
 * Free also after a failure. */
bool jt_ask_take(jt_ask *ask, bool chat, json_t *root, const jt_sampling *usual,
                 jt_problem *problem);
/* The same of its text. */
bool jt_ask_read(jt_ask *ask, bool chat, const char *text, size_t len,
                 const jt_sampling *usual, jt_problem *problem);
void jt_ask_free(jt_ask *ask);

#endif
