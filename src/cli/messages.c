#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

double cli_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int cli_columns(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) || size.ws_col < 20)
        return 80;
    return size.ws_col;
}

static void print_error(cli_context *cli, const char *message)
{
    cli_progress_clear(cli);
    fflush(stdout);
    const char *on = cli->color ? "\033[1;31m" : "", *off = cli->color ? "\033[0m" : "";
    fprintf(stderr, "%sjunto %s:%s %s\n", on, cli->verb->name, off, message);
}

int cli_fail(cli_context *cli, const jt_err *err)
{
    print_error(cli, err->msg);
    if (err->code == JT_E_ARG)
        return CLI_USAGE;
    return err->code == JT_E_INTERRUPTED ? CLI_INTERRUPTED : CLI_FAILED;
}

int cli_usage(cli_context *cli, const char *fmt, ...)
{
    char message[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    print_error(cli, message);
    return CLI_USAGE;
}

void cli_note(cli_context *cli, const char *fmt, ...)
{
    if (cli->quiet)
        return;
    cli_progress_clear(cli);
    va_list args;
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
}

/* ---- progress ---- */

void cli_progress_clear(cli_context *cli)
{
    if (cli->progress.drawn)
        fputs("\r\033[K", stderr);
    cli->progress.drawn = false;
}

static void draw_progress(cli_context *cli, const char *what, unsigned long long done,
                          unsigned long long total)
{
    const char *start = cli->terminal ? "\r\033[K" : "";
    const char *end = cli->terminal ? "" : "\n";
    if (total)
        fprintf(stderr, "%s%s: %.0f%%%s", start, what,
                100.0 * (double)done / (double)total, end);
    else
        fprintf(stderr, "%s%s: %llu%s", start, what, done, end);
    cli->progress.drawn = cli->terminal;
}

static int on_progress(void *user, const char *what, unsigned long long done,
                       unsigned long long total)
{
    cli_context *cli = user;
    double now = cli_seconds();
    if (!done)
        cli->progress.start = cli->progress.last = now;
    bool due = cli->terminal
                   ? now - cli->progress.start >= 1.0 && now - cli->progress.last >= 0.2
                   : now - cli->progress.last >= 30.0;
    if (total && done >= total) {
        cli_progress_clear(cli);
    } else if (due && !cli->quiet) {
        draw_progress(cli, what, done, total);
        cli->progress.last = now;
    }
    return cli_interrupted();
}

jt_progress cli_progress(cli_context *cli)
{
    cli->progress.start = cli->progress.last = cli_seconds();
    return (jt_progress){on_progress, cli};
}

/* ---- Ctrl-C ---- */

static volatile sig_atomic_t interrupts;

static void on_signal(int signal_number)
{
    (void)signal_number;
    if (interrupts)
        _exit(CLI_INTERRUPTED);
    interrupts = 1;
}

void cli_interrupt_catch(void)
{
    /* No SA_RESTART: a read that waits for a line must end. */
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool cli_interrupted(void)
{
    return interrupts != 0;
}

void cli_interrupt_clear(void)
{
    interrupts = 0;
}
