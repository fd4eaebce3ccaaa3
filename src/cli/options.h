/* The flags of a verb as data.
 *
 * A verb describes its flags and operands once, in tables; parsing, --help, the man
 * page and the completion of the shells all read those tables. Parsing fills a plain
 * struct and does nothing else, so it can be tested and fuzzed by itself:
 *
 *     struct hello_args { cli_common common; const char *name; int times; };
 *     static const cli_option hello_flags[] = {
 *         {.flags = "-n --times", .kind = CLI_INT, .value = "N", .initial = "1",
 *          .offset = offsetof(struct hello_args, times), .min = 1, .max = 9,
 *          .help = "how often"},
 *         {0}};
 */
#ifndef JUNTO_CLI_OPTIONS_H
#define JUNTO_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/status.h"

/* Kind of a flag, and the type of its field. */
typedef enum cli_kind {
    CLI_FLAG,   /* bool: given or not */
    CLI_SWITCH, /* int: --name 1, --no-name 0, otherwise as initial says (-1: neither)
                 */
    CLI_INT,    /* int in min .. max (any int when both are 0) */
    CLI_FLOAT,  /* float in min .. max (any finite one when both are 0) */
    CLI_SEED,   /* int64_t, -1 or more */
    CLI_SIZE,   /* uint64_t bytes: 64M, 1.5G; powers of 1024; from min on */
    CLI_MEMORY, /* the same, or a part of the memory that the process may use: 75% */
    CLI_STRING, /* const char * */
    CLI_PATH,   /* const char *, completed as a file name */
    CLI_CHOICE, /* const char *, one of the words in `value` ("random|zero") */
    CLI_LIST,   /* cli_list: may be given several times; an operand takes the rest */
    CLI_INTS    /* cli_ints: "1,2,3", each in min .. max */
} cli_kind;

/* Owned by the arguments struct; see cli_args_free. */
typedef struct cli_list {
    const char **items;
    size_t count;
} cli_list;

typedef struct cli_ints {
    int32_t *items;
    size_t count;
} cli_ints;

typedef struct cli_option {
    const char *flags; /* "-n --predict --n-predict": letter, name, then aliases; an
                          operand has its name here: "MODEL" */
    cli_kind kind;
    const char *value;   /* what the help calls the value, or the choices */
    size_t offset;       /* of the field, counted from the group's base */
    const char *initial; /* default, written as a user would; NULL: all zero */
    const char *unset;   /* of CLI_INT and CLI_FLOAT, instead of initial: what happens
                            without the flag; the field is INT_MIN or NAN then */
    double min, max;
    bool required;
    bool is_model;    /* of CLI_PATH: the name of a model on the shelf will do */
    bool has_flags;   /* of CLI_PATH: a file of further flags (config.h) */
    const char *help; /* one sentence without a full stop */
} cli_option;

/* Flags that belong together; `title` NULL continues the group before. */
typedef struct cli_group {
    const char *title;
    const cli_option *options; /* ends with {0} */
    size_t base;               /* offset of the struct that holds the fields */
} cli_group;

/* First member of every verb's arguments. */
typedef struct cli_common {
    bool help, quiet;
    const char *color; /* "auto", "always", "never" */
} cli_common;
extern const cli_option cli_common_options[];

struct cli_context;

typedef struct cli_verb {
    const char *name, *section, *summary;
    const char *details;         /* paragraphs for the man page; may be NULL */
    const cli_option *operands;  /* in order, ends with {0}; may be NULL */
    const cli_group *groups;     /* ends with {0} */
    const char *const *examples; /* pairs: command, what it does; ends with NULL */
    size_t args_size;
    int (*run)(struct cli_context *cli, const void *args); /* gives the exit code */
} cli_verb;

/* Read the words after the verb into `args` (args_size bytes). Stops at --help with
 * common.help set. The fields point into argv. JT_E_ARG: the message names the flag;
 * JT_E_MEMORY. Call cli_args_free in every case. */
jt_status cli_parse(const cli_verb *verb, int argc, char *const *argv, void *args,
                    jt_err *err);
void cli_args_free(const cli_verb *verb, void *args);

/* Read "1,2,3" (also separated by spaces or line ends), each in min .. max; `what` is
 * named in errors. The caller frees out->items. */
jt_status cli_parse_ints(cli_ints *out, const char *text, double min, double max,
                         const char *what, jt_err *err);

/* The words of a flag list, one after the other: start with *rest = option->flags.
 * false at the end. */
bool cli_next_word(const char **rest, const char **word, size_t *len);
/* The first long flag ("--predict"), or the only word. Returns its length. */
size_t cli_main_flag(const cli_option *option, const char **flag);
/* What help calls the default; NULL for nothing worth telling. */
const char *cli_default(const cli_option *option);
/* Does the flag take a value? */
bool cli_takes_value(const cli_option *option);

#endif
