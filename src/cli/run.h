/* The parts of `junto run`: one reply, the chat, the report. */
#ifndef JUNTO_CLI_RUN_H
#define JUNTO_CLI_RUN_H

#include "common.h"

struct run_args {
    cli_common common;
    const char *model, *prompt, *file, *system, *chat_format;
    bool interactive, chat, escape, ignore_end, json;
    int special, display_prompt, experts; /* switches */
    int predict;
    int64_t seed;
    cli_list stop;
    jt_sampling sampling;
    jt_session_options session;
};

extern const cli_option run_operands[];
extern const cli_group run_groups[];

/* A run in progress. */
typedef struct run_state {
    cli_context *cli;
    const struct run_args *args;
    cli_model m;
    jt_sampling sampling;
    jt_session *session;
    jt_sampler *sampler;
    jt_usage *usage;              /* NULL for a dense model */
    const jt_chat_format *format; /* NULL: the prompt goes in as it is */
    char *text;                   /* of the reply, gathered for --json */
    size_t text_len, text_capacity;
    char last;         /* last byte of the reply, 0 when there was none */
    jt_err output_err; /* why the text could not be handed on; code JT_OK: it was */
} run_state;

/* Turn `text` into tokens, evaluate them and sample the reply: streamed to standard
 * output, or gathered in run->text with --json. `begin` marks the start of a context.
 * JT_E_IO when the reply could not be written; an interruption is a result. */
jt_status run_reply(run_state *run, const char *text, size_t len, bool begin,
                    jt_generate_result *result, jt_err *err);

/* Wrap a turn into the chat format; the caller frees *out. */
jt_status run_wrap_turn(const run_state *run, const char *text, bool begin, char **out,
                        jt_err *err);

/* Sampler as at the start: no history. */
jt_status run_new_sampler(run_state *run, jt_err *err);

/* The conversation of -i, with a first turn or NULL; gives the exit code. */
int run_chat(run_state *run, const char *first);

/* Figures of one reply, and the picture of the experts, on standard error. */
void run_print_figures(run_state *run, const jt_generate_result *result);
void run_print_experts(run_state *run);
/* --json: the object on standard output; gives the exit code. */
int run_print_json(run_state *run, const jt_generate_result *result);

#endif
