/* One line from a terminal, with editing and history: libedit, where the build has it.
 */
#ifndef JUNTO_CLI_LINE_EDITOR_H
#define JUNTO_CLI_LINE_EDITOR_H

#include <stdbool.h>
#include <stddef.h>

typedef struct line_editor line_editor;

/* NULL: nothing to edit with (no terminal, no libedit, no memory). */
line_editor *line_editor_open(bool color);
void line_editor_close(line_editor *editor); /* writes the history; NULL is fine */

/* A line without its end, borrowed until the next call; NULL at the end of input and
 * after Ctrl-C. `mark` stands before it. */
const char *line_editor_read(line_editor *editor, const char *mark, size_t *len);
/* Type `text` for the user; a line end in it is as if Enter was pressed. */
void line_editor_type(line_editor *editor, const char *text);

#endif
