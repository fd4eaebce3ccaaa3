#include <stdlib.h>
#include <string.h>

#include "train.h"

void train_watch_begin(struct train_watch *watch, cli_context *cli)
{
    *watch = (struct train_watch){
        .cli = cli, .reading = cli_progress(cli), .start = cli_seconds()};
}

void train_watch_end(struct train_watch *watch)
{
    json_decref(watch->held_out);
    free(watch->path);
}

train_time train_show_time(double seconds)
{
    static const struct {
        long size;
        const char *large, *small;
        long small_size;
    } units[] = {{86400, "d", "h", 3600}, {3600, "h", "m", 60}, {60, "m", "s", 1}};
    train_time out;
    if (!(seconds < 100 * 365.0 * 86400)) {
        snprintf(out.text, sizeof out.text, "for ever");
        return out;
    }
    long whole = (long)(seconds + 0.5);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (whole >= units[i].size) {
            snprintf(out.text, sizeof out.text, "%ld%s%02ld%s", whole / units[i].size,
                     units[i].large, whole % units[i].size / units[i].small_size,
                     units[i].small);
            return out;
        }
    }
    snprintf(out.text, sizeof out.text, seconds < 10 ? "%.1fs" : "%.0fs", seconds);
    return out;
}

/* "step 12/100  loss 3.214  12.3 K tokens/s  balance 0.21  4m10s left" */
static void print_step(cli_context *cli, const jt_train_event *e)
{
    char line[200], balance[40] = "";
    if (e->experts_used > 0)
        snprintf(balance, sizeof balance, "  balance %.2f", e->max_violation);
    int len =
        snprintf(line, sizeof line, "step %lld/%lld  loss %.4f  %s tokens/s%s  %s left",
                 (long long)e->step, (long long)e->steps, e->loss,
                 cli_show_count(e->tokens_per_second).text, balance,
                 train_show_time(e->seconds_left).text);
    if (cli->terminal && len >= cli_columns())
        line[cli_columns() - 1] = '\0';
    fprintf(stderr, cli->terminal ? "\r\033[K%s" : "%s\n", line);
    cli->progress.drawn = cli->terminal;
}

/* On a terminal the line redraws itself, elsewhere one appears now and then. */
static void on_step(struct train_watch *watch, const jt_train_event *e)
{
    cli_context *cli = watch->cli;
    double now = cli_seconds(), pause = cli->terminal ? 0.2 : 30.0;
    bool first = watch->last.step == 0;
    if (first && e->step > 0) /* every step has as many */
        watch->first_tokens = e->tokens / (uint64_t)e->step * (uint64_t)(e->step - 1);
    watch->last = *e;
    watch->steps++;
    if (cli->quiet || (!first && now - cli->progress.last < pause))
        return;
    print_step(cli, e);
    cli->progress.last = now;
}

static json_t *held_out_json(const jt_train_event *e)
{
    json_t *domains = json_object();
    for (size_t i = 0; i < e->n_domains; i++) {
        json_t *name = cli_json_text(e->domain[i], strlen(e->domain[i]));
        json_object_set_new(domains, name ? json_string_value(name) : "?",
                            cli_json_number(e->domain_loss[i]));
        json_decref(name);
    }
    return json_pack("{s:o, s:o}", "loss", cli_json_number(e->loss), "domains",
                     domains);
}

static void on_eval(struct train_watch *watch, const jt_train_event *e)
{
    cli_context *cli = watch->cli;
    json_decref(watch->held_out);
    watch->held_out = held_out_json(e);
    if (cli->quiet)
        return;
    cli_progress_clear(cli);
    fprintf(stderr, "step %lld/%lld  held out %.4f ", (long long)e->step,
            (long long)e->steps, e->loss);
    for (size_t i = 0; i < e->n_domains && e->n_domains > 1; i++)
        fprintf(stderr, "%s %s %.4f", i ? "," : "", e->domain[i], e->domain_loss[i]);
    fputc('\n', stderr);
}

int train_on_event(void *user, const jt_train_event *event)
{
    struct train_watch *watch = user;
    if (event->store)
        watch->store = *event->store;
    switch (event->kind) {
    case JT_TRAIN_STEP:
        on_step(watch, event);
        break;
    case JT_TRAIN_EVAL:
        on_eval(watch, event);
        break;
    case JT_TRAIN_SAVE:
        free(watch->path);
        watch->path = strdup(event->path);
        break;
    }
    return cli_interrupted();
}

/* Once steps have lines of their own, the parts of a step need none. */
static int on_progress(void *user, const char *what, unsigned long long done,
                       unsigned long long total)
{
    struct train_watch *watch = user;
    if (watch->last.step)
        return cli_interrupted();
    return watch->reading.fn(watch->reading.user, what, done, total);
}

jt_progress train_progress(struct train_watch *watch)
{
    return (jt_progress){on_progress, watch};
}
