/* What several verbs share: the model, its session flags, input text and JSON. */
#ifndef JUNTO_CLI_COMMON_H
#define JUNTO_CLI_COMMON_H

#include <jansson.h>

#include "cli.h"
#include "junto/junto.h"

/* Operand MODEL of a verb whose arguments struct is `type`, in its member `model`. */
#define CLI_MODEL_OPERAND(type)                                                 \
    {                                                                           \
        .flags = "MODEL", .kind = CLI_PATH, .is_model = true, .required = true, \
        .offset = offsetof(type, model),                                        \
        .help = "GGUF file, first part of a split one, Hugging Face folder, "   \
                "or a name of 'junto list'"                                     \
    }

/* Groups whose fields are those of jt_session_options. */
extern const cli_option cli_context_options[]; /* -c */
extern const cli_option cli_threads_options[]; /* -t */
extern const cli_option cli_kernel_options[];  /* -b, --cpu */

/* --ram and what belongs to it (store_flags.c); the fields of jt_store_options. */
extern const cli_option cli_store_options[];
extern const cli_option cli_store_read_options[]; /* how it reads, beside those */
/* Let the store keep the experts that a trace (NULL: none is given) uses most: fills in
 * policy and uses, which the caller frees when the session has begun. */
jt_status cli_store_pin(jt_store_options *store, double **uses, const char *trace,
                        jt_err *err);
/* What the store of a session did, as a note of one line and as JSON; nothing, and
 * NULL, for a session without one. */
void cli_store_note(cli_context *cli, const jt_session *session);
json_t *cli_store_json(const jt_session *session);
json_t *cli_store_stats_json(const jt_store_stats *stats); /* and of any store */
json_t *cli_budget_json(const jt_store_budget *budget);

/* Flags of verbs that can leave a trace (trace.c), and the group of these fields. */
typedef struct cli_trace_flags {
    const char *path; /* NULL: none is wanted */
    bool scores, norms, residency;
} cli_trace_flags;
extern const cli_option cli_trace_options[];
extern const cli_option cli_residency_options[]; /* of verbs with a store, too */

/* The flag of verbs whose routing can be steered (policy_flags.c). */
typedef struct cli_policies {
    cli_list list;
} cli_policies;
extern const cli_option cli_policy_options[];

typedef struct cli_model {
    jt_model *model;
    jt_model_info info;
    const jt_tokenizer *tokenizer; /* NULL when the file has none */
    double seconds;                /* it took to load */
    jt_adapter **adapters;         /* [n_adapters] that sessions use */
    size_t n_adapters;
} cli_model;

/* Load; with `text` a file without a tokenizer is JT_E_UNSUPPORTED. */
jt_status cli_load(cli_model *out, const char *path, bool text, jt_err *err);
/* The same as the store flags ask: with a budget, the experts stay in the file. */
jt_status cli_load_stored(cli_model *out, const char *path, bool text,
                          const jt_store_options *store, jt_err *err);
void cli_unload(cli_model *model); /* all zero is fine */

/* A session; a context that the model cannot have is blamed on `flag`. */
jt_status cli_new_session(jt_session **out, const cli_model *model,
                          const jt_session_options *options, const char *flag,
                          jt_err *err);

/* Flags of verbs that run a model with adapters (adapter_flags.c), and the group of
 * this field: a cli_list. */
extern const cli_option cli_adapter_options[];
extern const cli_option cli_adapter_type_options[]; /* into jt_session_options */
/* What stands behind the path of an adapter, "FILE@2:0.5". */
typedef struct cli_adapter_at {
    float scale;
    bool has_task;
    size_t task;
} cli_adapter_at;
/* Take "FILE[@TASK][:SCALE]" apart; a file that has the whole name comes first. The
 * caller frees *path. */
jt_status cli_adapter_item(const char *item, char **path, cli_adapter_at *out,
                           jt_err *err);
/* Open "FILE[:SCALE]"; the model owns it. Errors are blamed on --adapter. */
jt_status cli_open_adapter(cli_model *model, const char *item, jt_adapter **out,
                           float *scale, jt_err *err);
/* Open all of a list and add them to a session. */
jt_status cli_add_adapters(cli_model *model, jt_session *session, const cli_list *list,
                           jt_err *err);
/* A session for texts of so many tokens, with adapters, whose virtual tokens get room
 * of their own. *out is the caller's also after a failure. Errors are blamed on `flag`,
 * or on --adapter. */
jt_status cli_new_session_for(jt_session **out, cli_model *model, size_t tokens,
                              const jt_session_options *options, const char *flag,
                              const cli_list *adapters, jt_err *err);

/* Let the policies that were asked for act on `session`; *out is NULL when there are
 * none, and is otherwise freed after the session. Errors are blamed on --policy. */
jt_status cli_steer(jt_steering **out, const cli_policies *policies,
                    const cli_model *model, jt_session *session, jt_err *err);

/* --trace-.. without --trace: JT_E_ARG. */
jt_status cli_trace_check(const cli_trace_flags *flags, jt_err *err);
/* Begin the trace that `flags` ask for; *out is NULL when they ask for none. `session`:
 * of --trace-residency; or NULL. */
jt_status cli_trace_open(jt_trace_writer **out, const cli_trace_flags *flags,
                         const cli_model *model, const jt_session *session,
                         jt_err *err);
/* Begin the trace that `flags` ask for and let it watch `session`; *out is NULL when
 * they ask for none. Errors are blamed on --trace. */
jt_status cli_trace_begin(jt_trace_writer **out, const cli_trace_flags *flags,
                          const cli_model *model, jt_session *session, jt_err *err);
/* End it (NULL is fine), after the session has done its work; a failure is reported and
 * turns `code`, the exit code so far, into CLI_FAILED. Gives the exit code. */
int cli_trace_end(cli_context *cli, jt_trace_writer *writer, int code);

/* Read a file ("-": standard input) into a fresh buffer with a NUL after its last byte;
 * the caller frees. JT_E_IO, JT_E_LIMIT (over 1 GiB), JT_E_MEMORY. */
jt_status cli_read_text(char **text, size_t *len, const char *path, jt_err *err);

/* The key of a server: the first line of a file, which --api-key-file names, or
 * $JUNTO_API_KEY; *key NULL: none. The caller frees. JT_E_IO, JT_E_ARG, JT_E_MEMORY. */
jt_status cli_read_key(char **key, const char *path, jt_err *err);
/* All its keys, one a line. */
jt_status cli_read_keys(char **keys, const char *path, jt_err *err);

/* The seed that a flag asks for; -1: a fresh one from the system, short enough to type.
 */
uint64_t cli_seed(int64_t wanted);

/* Write all of `text` to standard output at once. JT_E_IO. */
jt_status cli_write(const char *text, size_t len, jt_err *err);

/* "1.4 GiB", "312 B" */
typedef struct cli_size {
    char text[16];
} cli_size;
cli_size cli_show_bytes(double bytes);
/* "135 M", "6.9 B" of things that are counted in thousands. */
cli_size cli_show_count(double count);

/* A JSON string of any bytes: what is not UTF-8 becomes U+FFFD. NULL: out of memory. */
json_t *cli_json_text(const char *text, size_t len);
/* A JSON number; null when it is not finite. */
json_t *cli_json_number(double value);
/* Print one object on a line of its own and free it; NULL (a failed construction) is
 * reported. Gives the exit code. */
int cli_print_json(cli_context *cli, json_t *json);

#endif
