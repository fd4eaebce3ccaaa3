#include "chat_lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "line_editor.h"

struct chat_lines {
    const cli_context *cli;
    line_editor *editor; /* NULL: plain lines */
    char *line;          /* the last plain one */
    size_t capacity;
    char *turn; /* in progress */
    size_t turn_len;
};

jt_status chat_lines_open(chat_lines **out, const cli_context *cli, jt_err *err)
{
    chat_lines *l = calloc(1, sizeof *l);
    if (!l)
        return jt_fail(err, JT_E_MEMORY, "out of memory for the chat");
    l->cli = cli;
    l->editor = line_editor_open(cli->color);
    *out = l;
    return JT_OK;
}

void chat_lines_close(chat_lines *l)
{
    if (!l)
        return;
    line_editor_close(l->editor);
    free(l->line);
    free(l->turn);
    free(l);
}

static const char *read_plain(chat_lines *l, const char *mark, size_t *len)
{
    if (!l->cli->quiet && isatty(STDIN_FILENO)) {
        bool color = l->cli->color;
        fprintf(stderr, "%s%s%s ", color ? "\033[1;32m" : "", mark,
                color ? "\033[0m" : "");
    }
    ssize_t got = getline(&l->line, &l->capacity, stdin);
    *len = got > 0 ? (size_t)got : 0;
    return got < 0 ? NULL : l->line;
}

/* The next line without its end. */
static chat_event read_line(chat_lines *l, const char *mark, const char **line,
                            size_t *len)
{
    *line = NULL;
    errno = 0;
    if (!cli_interrupted())
        *line = l->editor ? line_editor_read(l->editor, mark, len)
                          : read_plain(l, mark, len);
    if (cli_interrupted())
        return CHAT_INTERRUPTED;
    if (!*line)
        return !l->editor && errno && !feof(stdin) ? CHAT_FAILED : CHAT_END;
    while (*len && ((*line)[*len - 1] == '\n' || (*line)[*len - 1] == '\r'))
        --*len;
    return CHAT_TURN;
}

static bool append(chat_lines *l, const char *text, size_t len)
{
    char *longer = realloc(l->turn, l->turn_len + len + 1);
    if (!longer)
        return false;
    l->turn = longer;
    memcpy(longer + l->turn_len, text, len);
    l->turn_len += len;
    longer[l->turn_len] = '\0';
    return true;
}

/* Where a turn of several lines stands. */
typedef struct progress {
    bool quoted; /* between """ and """ */
    bool more;   /* the turn goes on in the next line */
} progress;

static bool add_line(chat_lines *l, const char *line, size_t len, progress *p)
{
    static const char quotes[] = "\"\"\"";
    if (!l->turn && len >= 3 && !memcmp(line, quotes, 3)) {
        p->quoted = true;
        line += 3;
        len -= 3;
    }
    if (p->quoted) {
        bool closed = len >= 3 && !memcmp(line + len - 3, quotes, 3);
        p->more = !closed;
        return append(l, line, closed ? len - 3 : len) &&
               (closed || append(l, "\n", 1));
    }
    p->more = len && line[len - 1] == '\\';
    return append(l, line, p->more ? len - 1 : len) && (!p->more || append(l, "\n", 1));
}

chat_event chat_lines_read(chat_lines *l, char **turn, jt_err *err)
{
    progress p = {.more = true};
    chat_event event = CHAT_TURN;
    for (const char *mark = ">"; p.more && event == CHAT_TURN; mark = "...") {
        const char *line;
        size_t len;
        event = read_line(l, mark, &line, &len);
        if (event == CHAT_END && l->turn) {
            event = CHAT_TURN; /* what is there is a turn */
            break;
        }
        if (event == CHAT_FAILED)
            jt_fail(err, JT_E_IO, "cannot read standard input: %s", strerror(errno));
        if (event == CHAT_TURN && !add_line(l, line, len, &p)) {
            jt_fail(err, JT_E_MEMORY, "out of memory for the turn");
            event = CHAT_FAILED;
        }
    }
    *turn = event == CHAT_TURN ? l->turn : NULL;
    if (event != CHAT_TURN)
        free(l->turn);
    l->turn = NULL;
    l->turn_len = 0;
    return event;
}

bool chat_lines_propose(chat_lines *l, const char *text)
{
    if (!l->editor)
        return false;
    for (const char *end; (end = strchr(text, '\n')); text = end + 1) {
        char *line = strndup(text, (size_t)(end - text));
        if (line)
            line_editor_type(l->editor, line);
        line_editor_type(l->editor, "\\\n");
        free(line);
    }
    line_editor_type(l->editor, text);
    return true;
}
