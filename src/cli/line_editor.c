#include "line_editor.h"

#ifndef JUNTO_HAVE_LIBEDIT

line_editor *line_editor_open(bool color)
{
    (void)color;
    return NULL;
}

void line_editor_close(line_editor *editor)
{
    (void)editor;
}

const char *line_editor_read(line_editor *editor, const char *mark, size_t *len)
{
    (void)editor;
    (void)mark;
    (void)len;
    return NULL;
}

void line_editor_type(line_editor *editor, const char *text)
{
    (void)editor;
    (void)text;
}

#else

#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "cli.h"

enum { REMEMBERED = 1000, PATH_SIZE = 4096 };

struct line_editor {
    EditLine *edit;
    History *history;
    HistEvent event;
    char mark[64];
    bool color;
    int keys; /* the terminal, opened anew: reading it never waits */
};

/* Where the history lies (XDG base directories: state); false: nowhere. */
static bool find_history(char *path)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int len = 0;
    if (state && *state == '/')
        len = snprintf(path, PATH_SIZE, "%s/junto/chat_history", state);
    else if (home && *home == '/')
        len = snprintf(path, PATH_SIZE, "%s/.local/state/junto/chat_history", home);
    return len > 0 && len < PATH_SIZE - 8;
}

static void make_folders(const char *path)
{
    char folder[PATH_SIZE];
    for (const char *slash = strchr(path + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
        mkdir(folder, 0700);
    }
}

/* A history that cannot be written is no reason to end a chat badly. */
static void save_history(line_editor *e)
{
    char path[PATH_SIZE], beside[PATH_SIZE];
    if (!find_history(path))
        return;
    make_folders(path);
    snprintf(beside, sizeof beside, "%.*s.new", PATH_SIZE - 5, path);
    if (history(e->history, &e->event, H_SAVE, beside) < 0 || rename(beside, path) != 0)
        unlink(beside);
}

/* Wait for a key; false after Ctrl-C. The signal may come only while waiting: between
 * a look at its mark and the wait it would be lost until the next key. */
static bool wait_for_key(int fd)
{
    struct pollfd keys = {.fd = fd, .events = POLLIN};
    sigset_t signals, before;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, &before);
    int ready = 0;
    while (ready <= 0 && !cli_interrupted()) {
        ready = ppoll(&keys, 1, NULL, &before);
        if (ready < 0 && errno != EINTR)
            break; /* let the read say what is wrong */
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return !cli_interrupted();
}

/* As libedit reads, but Ctrl-C ends the wait. */
static int read_char(EditLine *edit, wchar_t *out)
{
    line_editor *e;
    el_get(edit, EL_CLIENTDATA, &e);
    mbstate_t state = {0};
    while (wait_for_key(e->keys)) {
        char byte;
        ssize_t n = read(e->keys, &byte, 1);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue; /* Ctrl-C takes away what was typed before it */
        if (n <= 0)
            return n < 0 ? -1 : 0;
        size_t used = mbrtowc(out, &byte, 1, &state);
        if (used == (size_t)-2)
            continue; /* there is more of the character */
        if (used == (size_t)-1)
            *out = L'?';
        return 1;
    }
    return 0;
}

static char *get_mark(EditLine *edit)
{
    line_editor *e;
    el_get(edit, EL_CLIENTDATA, &e);
    return e->mark;
}

static bool start(line_editor *e)
{
    const char *terminal = ttyname(STDIN_FILENO);
    e->keys =
        terminal ? open(terminal, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;
    if (e->keys < 0)
        return false;
    e->edit = el_init("junto", stdin, stderr, stderr);
    e->history = history_init();
    if (!e->edit || !e->history)
        return false;
    el_set(e->edit, EL_CLIENTDATA, e);
    el_set(e->edit, EL_PROMPT_ESC, get_mark, '\1');
    el_set(e->edit, EL_EDITOR, "emacs");
    el_set(e->edit, EL_HIST, history, e->history);
    el_set(e->edit, EL_GETCFN, read_char);
    el_set(e->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(e->edit, NULL); /* what the user's .editrc says */
    history(e->history, &e->event, H_SETSIZE, REMEMBERED);
    history(e->history, &e->event, H_SETUNIQUE, 1);
    char path[PATH_SIZE];
    if (find_history(path))
        history(e->history, &e->event, H_LOAD, path);
    return true;
}

static void end(line_editor *e)
{
    if (e->edit)
        el_end(e->edit);
    if (e->history)
        history_end(e->history);
    if (e->keys >= 0)
        close(e->keys);
    free(e);
}

line_editor *line_editor_open(bool color)
{
    const char *term = getenv("TERM");
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO) || !term ||
        !strcmp(term, "dumb"))
        return NULL;
    if (!setlocale(LC_CTYPE, "C.UTF-8")) /* models speak UTF-8, whatever the locale */
        setlocale(LC_CTYPE, "");
    line_editor *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->color = color;
    if (start(e))
        return e;
    end(e);
    return NULL;
}

void line_editor_close(line_editor *e)
{
    if (!e)
        return;
    save_history(e);
    end(e);
}

const char *line_editor_read(line_editor *e, const char *mark, size_t *len)
{
    if (e->color)
        snprintf(e->mark, sizeof e->mark, "\1\033[1;32m\1%s\1\033[0m\1 ", mark);
    else
        snprintf(e->mark, sizeof e->mark, "%s ", mark);
    int count = 0;
    const char *line = el_gets(e->edit, &count);
    if (!line || count <= 0)
        return NULL;
    *len = strlen(line);
    if (*len > 1)
        history(e->history, &e->event, H_ENTER, line);
    return line;
}

void line_editor_type(line_editor *e, const char *text)
{
    el_push(e->edit, text);
}

#endif
