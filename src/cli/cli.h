/* What every verb uses: the table of verbs, and where results, errors, figures and
 * progress go.
 *
 * Results go to standard output; everything else to standard error. A verb gives its
 * exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
 */
#ifndef JUNTO_CLI_CLI_H
#define JUNTO_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "junto/status.h"
#include "options.h"

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_INTERRUPTED = 130 };

typedef struct cli_context {
    const cli_verb *verb;
    bool quiet;
    bool color;    /* on standard error */
    bool terminal; /* standard error is one */
    struct {
        double start, last;
        bool drawn; /* a line stands on the terminal */
    } progress;
} cli_context;

/* ---- the table ---- */

extern const cli_verb *const cli_verbs[]; /* ends with NULL */
const cli_verb *cli_find_verb(const char *name);
/* The whole program: dispatch argv, check that standard output was written. */
int cli_main(int argc, char **argv);

/* ---- messages ---- */

/* Print "junto VERB: message" and give the exit code that fits: CLI_USAGE for JT_E_ARG,
 * CLI_INTERRUPTED for JT_E_INTERRUPTED, otherwise CLI_FAILED. */
int cli_fail(cli_context *cli, const jt_err *err);
/* The same for mistakes in the arguments that a verb finds itself: CLI_USAGE. */
int cli_usage(cli_context *cli, const char *fmt, ...) JT_PRINTF(2, 3);
/* A line of figures or advice on standard error; nothing when quiet. */
void cli_note(cli_context *cli, const char *fmt, ...) JT_PRINTF(2, 3);

/* A progress report for long calls: a line that redraws itself on a terminal, after a
 * second and at most five times a second; elsewhere a plain line every 30 seconds; none
 * when quiet. It asks to stop after Ctrl-C. */
jt_progress cli_progress(cli_context *cli);
/* Take the progress line off the terminal. */
void cli_progress_clear(cli_context *cli);

double cli_seconds(void); /* a clock that never goes back */
/* Columns of the terminal behind standard error; 80 when there is none. */
int cli_columns(void);

/* ---- Ctrl-C ---- */

/* From now on Ctrl-C (and a polite kill) sets a mark; a second one before the mark was
 * taken off ends the process. */
void cli_interrupt_catch(void);
bool cli_interrupted(void);
void cli_interrupt_clear(void);

/* ---- generated texts (help.c, complete.c, man.c) ---- */

void cli_print_overview(FILE *out);
void cli_print_help(FILE *out, const cli_verb *verb);
void cli_print_man(FILE *out);
void cli_print_markdown(FILE *out);
void cli_print_bash(FILE *out);
void cli_print_zsh(FILE *out);
void cli_print_fish(FILE *out);

/* "-n, --predict N" for help and manual: letter, main name and value of a flag. */
void cli_print_synopsis(FILE *out, const cli_option *option);
/* "junto run [FLAGS] MODEL" */
void cli_print_usage(FILE *out, const cli_verb *verb);

#endif
