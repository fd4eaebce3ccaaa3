/* Inside `junto train`: what is shown while it runs, and what it found. */
#ifndef JUNTO_CLI_TRAIN_H
#define JUNTO_CLI_TRAIN_H

#include "common.h"
#include "junto/learn.h"

struct train_args {
    cli_common common;
    const char *config;
    cli_list settings;
    bool resume, dry_run, json, help_keys, markdown;
    cli_trace_flags trace;
    int trace_every;
};

/* A run as its events tell it. */
struct train_watch {
    cli_context *cli;
    jt_progress reading; /* the usual progress line, before the first step */
    double start;
    jt_train_event last;   /* step; its pointers are gone */
    jt_store_stats store;  /* of a run with a budget, up to the last event */
    int64_t steps;         /* of this process */
    uint64_t first_tokens; /* seen before the first step of this process */
    json_t *held_out;      /* {"loss": ..., "domains": {...}} of the last evaluation */
    char *path;            /* the last file that was saved */
};

void train_watch_begin(struct train_watch *watch, cli_context *cli);
void train_watch_end(struct train_watch *watch);
int train_on_event(void *user, const jt_train_event *event);
jt_progress train_progress(struct train_watch *watch);

/* Train, or with args->dry_run say what it would cost; gives the exit code. */
int train_go(cli_context *cli, const struct train_args *args,
             jt_train_options *options);
int train_print_plan(cli_context *cli, const struct train_args *args,
                     const jt_train_plan *plan);
int train_print_result(cli_context *cli, const struct train_args *args,
                       const struct train_watch *watch);

/* "45s", "4m10s", "2h03m", "3d04h" */
typedef struct train_time {
    char text[48];
} train_time;
train_time train_show_time(double seconds);

#endif
