/* What `run`, `chat` and `template` share: which chat template, and what it is given.
 */
#ifndef JUNTO_CLI_TEMPLATES_H
#define JUNTO_CLI_TEMPLATES_H

#include "common.h"

typedef struct cli_template_args {
    const char *given; /* name, file or text; NULL: the model's */
    const char *think; /* "auto", "on", "off" */
    const char *tools; /* file */
    cli_list variables;
} cli_template_args;

/* A group whose fields are those of cli_template_args. */
extern const cli_option cli_template_options[];

typedef struct cli_template {
    jt_chat *chat;
    char *tools, *variables; /* JSON, or NULL */
    size_t tools_len, variables_len;
} cli_template;

/* `file` and `tok` may be NULL. Errors name the flag. */
jt_status cli_template_open(cli_template *out, const cli_template_args *args,
                            const jt_gguf *file, const jt_tokenizer *tok, jt_err *err);
void cli_template_close(cli_template *t); /* all zero is fine */

/* Take the tools of a JSON file, or none with NULL; on failure they stay. */
jt_status cli_template_read_tools(cli_template *t, const char *path, jt_err *err);

/* Render `messages`; with `ask` up to where the reply begins. The caller frees *text.
 */
jt_status cli_template_render(const cli_template *t, const json_t *messages,
                              jt_think think, bool ask, char **text, size_t *len,
                              jt_err *err);

/* A message {"role", "content"}; NULL: out of memory. */
json_t *cli_message(const char *role, const char *text, size_t len);

/* The value of "auto|on|off". */
jt_think cli_think(const char *word);

#endif
