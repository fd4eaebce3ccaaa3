#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"

typedef enum line_kind { LINE_TURN, LINE_END, LINE_INTERRUPTED, LINE_FAILED } line_kind;

static void show_mark(const run_state *run, const char *mark)
{
    if (run->cli->quiet || !isatty(STDIN_FILENO))
        return;
    const char *on = run->cli->color ? "\033[1;32m" : "";
    fprintf(stderr, "%s%s%s ", on, mark, run->cli->color ? "\033[0m" : "");
}

/* Read a turn: lines that end with a backslash go on. The caller frees *turn, which is
 * NULL when there is none. */
static line_kind read_turn(const run_state *run, char **turn, jt_err *err)
{
    *turn = NULL;
    size_t turn_len = 0, capacity = 0;
    char *line = NULL;
    line_kind kind = LINE_TURN;
    bool more = true;
    for (const char *mark = ">"; more; mark = "...") {
        show_mark(run, mark);
        errno = 0;
        ssize_t len = cli_interrupted() ? -1 : getline(&line, &capacity, stdin);
        if (len < 0) {
            kind = cli_interrupted()       ? LINE_INTERRUPTED
                   : errno && !feof(stdin) ? LINE_FAILED
                   : *turn                 ? LINE_TURN
                                           : LINE_END;
            break;
        }
        while (len && (line[len - 1] == '\n' || line[len - 1] == '\r'))
            len--;
        more = len && line[len - 1] == '\\';
        if (more)
            line[len - 1] = '\n';
        char *longer = realloc(*turn, turn_len + (size_t)len + 1);
        if (!longer) {
            errno = ENOMEM;
            kind = LINE_FAILED;
            break;
        }
        *turn = longer;
        memcpy(*turn + turn_len, line, (size_t)len);
        turn_len += (size_t)len;
        (*turn)[turn_len] = '\0';
    }
    if (kind == LINE_FAILED)
        jt_fail(err, JT_E_IO, "cannot read standard input: %s", strerror(errno));
    free(line);
    return kind;
}

/* Answer one turn. A full context is told and survived; other failures end the chat. */
static jt_status answer(run_state *run, const char *text, bool *begin, jt_err *err)
{
    char *turn;
    JT_TRY(run_wrap_turn(run, text, *begin, &turn, err));
    jt_generate_result result;
    jt_status status = run_reply(run, turn, strlen(turn), *begin, &result, err);
    free(turn);
    if (status == JT_E_LIMIT) {
        cli_fail(run->cli, err);
        cli_note(run->cli, "/reset starts a new conversation");
        return JT_OK;
    }
    JT_TRY(status);
    *begin = false;
    JT_TRY(cli_write("\n", 1, err));
    if (result.finish == JT_FINISH_CONTEXT)
        cli_note(run->cli, "(the context is full; /reset starts a new conversation)");
    else if (result.finish == JT_FINISH_INTERRUPTED)
        cli_note(run->cli, "(interrupted; Ctrl-C again leaves)");
    cli_interrupt_clear();
    return JT_OK;
}

static jt_status reset(run_state *run, bool *begin, jt_err *err)
{
    JT_TRY(run_new_sampler(run, err));
    jt_session_truncate(run->session, 0);
    *begin = true;
    cli_note(run->cli, "(a new conversation)");
    return JT_OK;
}

/* Obey "/..." lines or answer. *leave is set by /exit. */
static jt_status obey(run_state *run, const char *text, bool *begin, bool *leave,
                      jt_err *err)
{
    if (!*text)
        return JT_OK;
    if (!strcmp(text, "/reset"))
        return reset(run, begin, err);
    if (!strcmp(text, "/help")) {
        cli_note(run->cli, "a line is a turn, a backslash at its end goes on in the "
                           "next line\n/reset  forget the conversation\n/exit   leave "
                           "(also Ctrl-D)\nCtrl-C  ends the reply");
        return JT_OK;
    }
    *leave = !strcmp(text, "/exit") || !strcmp(text, "/quit");
    return *leave ? JT_OK : answer(run, text, begin, err);
}

int run_chat(run_state *run, const char *first)
{
    jt_err err = {0};
    bool begin = true, leave = false;
    line_kind kind = LINE_TURN;
    jt_status status = first ? answer(run, first, &begin, &err) : JT_OK;
    while (status == JT_OK && !leave) {
        char *turn;
        kind = read_turn(run, &turn, &err);
        if (kind == LINE_TURN)
            status = obey(run, turn, &begin, &leave, &err);
        free(turn);
        if (kind != LINE_TURN)
            break;
    }
    if (status != JT_OK || kind == LINE_FAILED)
        return cli_fail(run->cli, &err);
    if (kind != LINE_TURN && isatty(STDIN_FILENO))
        cli_note(run->cli, "%s", "");
    run_print_experts(run);
    return kind == LINE_INTERRUPTED ? CLI_INTERRUPTED : CLI_DONE;
}
