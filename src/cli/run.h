/* The parts of `junto run` and `junto chat`: settings, one reply, the report. */
#ifndef JUNTO_CLI_RUN_H
#define JUNTO_CLI_RUN_H

#include "common.h"
#include "grammar.h"
#include "speculate.h"
#include "templates.h"

struct run_args {
    cli_common common;
    const char *model, *prompt, *file, *system, *load;
    bool interactive, chat, escape, ignore_end, json;
    int special, display_prompt, experts, show_thinking; /* switches */
    int predict, budget;
    int64_t seed;
    cli_list stop, adapters;
    cli_template_args template;
    cli_grammar_args grammar;
    jt_sampling sampling;
    jt_session_options session;
    const char *cache_trace;
    cli_trace_flags trace;
    cli_policies policies;
    cli_speculate_args speculate;
};

extern const cli_option run_operands[], run_sampling_options[];
extern const cli_group run_groups[], run_chat_groups[];

typedef struct run_text {
    char *data;
    size_t len, capacity;
} run_text;

/* A run in progress. */
typedef struct run_state {
    cli_context *cli;
    struct run_args args; /* a chat changes them */
    cli_model m;
    jt_session *session;
    jt_usage *usage;        /* NULL for a dense model */
    jt_trace_writer *trace; /* NULL without --trace */
    jt_steering *steering;  /* NULL without --policy */
    cli_speculator speculator;
    cli_grammar grammar;
    cli_template template; /* .chat is NULL where the prompt goes in as it is */
    uint64_t seed, replies;
    run_text answer, thought; /* of the last reply */
    bool in_thought;          /* the last text that came was thought */
    jt_err output_err;        /* why text could not be handed on; code JT_OK: it was */
} run_state;

/* Load the model and what stands round it, after the arguments. run_close in any case:
 * it takes the exit code so far and gives the one that is due after the trace has
 * ended.
 */
jt_status run_open(run_state *run, const struct run_args *args, bool chat, jt_err *err);
int run_close(run_state *run, int code);

/* What the model goes on from: the text of a prompt, or messages by the template. */
typedef struct run_prompt {
    char *text; /* owned */
    size_t len;
    jt_tokens tokens;
    bool in_thought; /* it has opened one */
} run_prompt;

jt_status run_prompt_plain(const run_state *run, const char *text, size_t len,
                           run_prompt *out, jt_err *err);
jt_status run_prompt_chat(const run_state *run, const json_t *messages, run_prompt *out,
                          jt_err *err);
void run_prompt_free(run_prompt *prompt);

/* The reply to a prompt: gathered in run->answer and run->thought, and streamed to
 * standard output unless with --json. JT_E_IO when it could not be written; an
 * interruption is a result. */
jt_status run_reply(run_state *run, const run_prompt *prompt,
                    jt_generate_result *result, jt_err *err);

/* Figures of one reply, and the picture of the experts, on standard error. */
void run_print_figures(run_state *run, const jt_generate_result *result);
void run_print_experts(run_state *run);
/* --json: the object on standard output; gives the exit code. */
int run_print_json(run_state *run, const jt_generate_result *result);

#endif
