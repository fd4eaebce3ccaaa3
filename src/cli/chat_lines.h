/* Turns from the keyboard, with editing and history on a terminal, or from a pipe. */
#ifndef JUNTO_CLI_CHAT_LINES_H
#define JUNTO_CLI_CHAT_LINES_H

#include "cli.h"

typedef struct chat_lines chat_lines;

typedef enum chat_event {
    CHAT_TURN,
    CHAT_END,
    CHAT_INTERRUPTED,
    CHAT_FAILED
} chat_event;

/* JT_E_MEMORY. */
jt_status chat_lines_open(chat_lines **out, const cli_context *cli, jt_err *err);
void chat_lines_close(chat_lines *lines); /* writes the history; NULL is fine */

/* Read a turn: a backslash at the end of a line goes on in the next; lines between """
 * and """ are one turn. *turn (the caller frees it) is NULL unless the event is
 * CHAT_TURN. */
chat_event chat_lines_read(chat_lines *lines, char **turn, jt_err *err);

/* Put `text` into the next line, to be changed; false where nobody can edit. */
bool chat_lines_propose(chat_lines *lines, const char *text);

#endif
