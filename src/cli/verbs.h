/* The verbs, each in the file of its name. */
#ifndef JUNTO_CLI_VERBS_H
#define JUNTO_CLI_VERBS_H

#include "options.h"

extern const cli_verb cli_verb_run;
extern const cli_verb cli_verb_chat;
extern const cli_verb cli_verb_serve;
extern const cli_verb cli_verb_pull;
extern const cli_verb cli_verb_list;
extern const cli_verb cli_verb_rm;
extern const cli_verb cli_verb_ps;
extern const cli_verb cli_verb_bench;
extern const cli_verb cli_verb_info;
extern const cli_verb cli_verb_families;
extern const cli_verb cli_verb_tokenize;
extern const cli_verb cli_verb_template;
extern const cli_verb cli_verb_logits;
extern const cli_verb cli_verb_perplexity;
extern const cli_verb cli_verb_eval;
extern const cli_verb cli_verb_modes;
extern const cli_verb cli_verb_policies;
extern const cli_verb cli_verb_trace;
extern const cli_verb cli_verb_report;
extern const cli_verb cli_verb_compare;
extern const cli_verb cli_verb_simulate;
extern const cli_verb cli_verb_plan;
extern const cli_verb cli_verb_audit;
extern const cli_verb cli_verb_train;
extern const cli_verb cli_verb_train_tokenizer;
extern const cli_verb cli_verb_tune;
extern const cli_verb cli_verb_adapter;
extern const cli_verb cli_verb_merge_adapter;
extern const cli_verb cli_verb_upcycle;
extern const cli_verb cli_verb_convert;
extern const cli_verb cli_verb_quantize;
extern const cli_verb cli_verb_imatrix;
extern const cli_verb cli_verb_diff;
extern const cli_verb cli_verb_recipe;
extern const cli_verb cli_verb_completion;
extern const cli_verb cli_verb_man;
extern const cli_verb cli_verb_help;

#endif
