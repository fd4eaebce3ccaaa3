/* `junto chat`: the conversation and its parts. */
#ifndef JUNTO_CLI_CHAT_H
#define JUNTO_CLI_CHAT_H

#include "chat_lines.h"
#include "run.h"

typedef struct chat_state {
    run_state run;
    json_t *messages;
    chat_lines *lines;
    char *path;      /* of the last /save or /load; NULL: none */
    bool answer_now; /* a command asks for a reply to the messages as they are */
    bool leave;
    jt_generate_result last; /* of the last reply */
    size_t sampled, thoughts;
} chat_state;

/* The conversation, with a first turn or NULL; gives the exit code. */
int chat_run(cli_context *cli, const struct run_args *args, const char *first);

/* Obey a line that begins with a slash. */
jt_status chat_obey(chat_state *chat, const char *line, jt_err *err);

/* ---- messages ---- */

jt_status chat_add(json_t *messages, json_t *message, jt_err *err); /* takes it */
/* Put `text` before all turns, in place of what stands there; NULL takes it away. */
jt_status chat_set_system(json_t *messages, const char *text, jt_err *err);
/* Take away what follows the last user's turn; false: there is no such turn. */
bool chat_drop_reply(json_t *messages);
/* Take away the last user's turn and what follows; gives the turn (the caller frees it
 * with json_decref), NULL when there is none. */
json_t *chat_drop_turn(json_t *messages);

/* ---- saved chats ---- */

/* Write messages and settings beside `path` and put the file in its place. JT_E_IO. */
jt_status chat_save(const chat_state *chat, const char *path, jt_err *err);
/* Replace messages and settings; on failure they stay. A list of messages alone is
 * fine. JT_E_IO, JT_E_FORMAT. */
jt_status chat_load(chat_state *chat, const char *path, jt_err *err);

/* Change a sampling flag by its long name without dashes ("top-k"). JT_E_ARG: the name
 * is unknown, or the value is wrong. */
jt_status chat_set(struct run_args *args, const char *name, const char *value,
                   jt_err *err);
/* All such settings as a JSON object. NULL: out of memory. */
json_t *chat_settings(const struct run_args *args);

#endif
