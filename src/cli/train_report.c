#include <math.h>
#include <string.h>

#include "train.h"

/* ---- what it would cost ---- */

static int plan_json(cli_context *cli, const struct train_args *args,
                     const jt_train_plan *p)
{
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {{"params", p->n_params},
                  {"active_params", p->n_active_params},
                  {"trained_params", p->n_trained_params},
                  {"steps", (uint64_t)p->steps},
                  {"tokens_per_step", p->tokens_per_step},
                  {"tokens", p->tokens},
                  {"epoch_tokens", p->epoch_tokens},
                  {"weight_bytes", p->weight_bytes},
                  {"gradient_bytes", p->gradient_bytes},
                  {"expert_bytes", p->expert_bytes},
                  {"optimiser_bytes", p->optimiser_bytes},
                  {"activation_bytes", p->activation_bytes},
                  {"data_bytes", p->data_bytes},
                  {"total_bytes", p->total_bytes}};
    json_t *json = json_pack("{s:o, s:o, s:o, s:o}", "config",
                             cli_json_text(args->config, strlen(args->config)),
                             "flops_per_token", cli_json_number(p->flops_per_token),
                             "peak_flops", cli_json_number(p->peak_flops), "seconds",
                             cli_json_number(p->seconds));
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        json_object_set_new(json, counts[i].name,
                            json_integer((json_int_t)counts[i].value));
    if (p->store.ram)
        json_object_set_new(json, "budget", cli_budget_json(&p->store));
    return cli_print_json(cli, json);
}

int train_print_plan(cli_context *cli, const struct train_args *args,
                     const jt_train_plan *p)
{
    if (args->json)
        return plan_json(cli, args, p);
    printf("parameters    %s, %s active, %s trained\n",
           cli_show_count((double)p->n_params).text,
           cli_show_count((double)p->n_active_params).text,
           cli_show_count((double)p->n_trained_params).text);
    printf("work          %s FLOPs per token, forward and backward\n",
           cli_show_count(p->flops_per_token).text);
    printf("steps         %lld of %s tokens: %s tokens", (long long)p->steps,
           cli_show_count((double)p->tokens_per_step).text,
           cli_show_count((double)p->tokens).text);
    if (p->epoch_tokens)
        printf(", %.2f times the %s of the data",
               (double)p->tokens / (double)p->epoch_tokens,
               cli_show_count((double)p->epoch_tokens).text);
    putchar('\n');
    const struct {
        const char *name;
        uint64_t bytes;
    } memory[] = {{"weights", p->weight_bytes},
                  {"gradients", p->gradient_bytes},
                  {"optimiser", p->optimiser_bytes},
                  {"activations", p->activation_bytes},
                  {"data", p->data_bytes}};
    printf("memory        %s", cli_show_bytes((double)p->total_bytes).text);
    if (p->store.ram)
        printf(" of %s, of which the smallest would be %s",
               cli_show_bytes((double)p->store.ram).text,
               cli_show_bytes((double)p->store.least).text);
    putchar('\n');
    if (p->store.ram)
        printf("  %-12s%s, %d of %d\n", "experts",
               cli_show_bytes((double)p->expert_bytes).text, p->store.slots,
               p->store.experts);
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        printf("  %-12s%s\n", memory[i].name,
               cli_show_bytes((double)memory[i].bytes).text);
    printf("time          about %s (this machine now: %s FLOPs per second)\n",
           train_show_time(p->seconds).text, cli_show_count(p->peak_flops).text);
    return CLI_DONE;
}

/* ---- what it found ---- */

/* Tokens of this process, and how many a second. */
static double count_tokens(const struct train_watch *w, double seconds, double *rate)
{
    double tokens = w->last.step ? (double)(w->last.tokens - w->first_tokens) : 0.0;
    *rate = seconds > 0 ? tokens / seconds : 0.0;
    return tokens;
}

/* What the store did, a step. */
static void store_note(cli_context *cli, const struct train_watch *w)
{
    const jt_store_stats *s = &w->store;
    double steps = w->steps ? (double)w->steps : 1.0;
    double asked = (double)(s->hits + s->hits_ahead + s->misses);
    double read = (double)(s->hits_ahead + s->misses);
    asked = asked > 0.0 ? asked : 1.0;
    cli_note(cli,
             "store %d of %d experts in memory; %s %s at %s/s; a step read %s and "
             "waited %.2f s; hits %.1f%%, read ahead %.1f%%, late %.1f%%; %.1f%% of "
             "what was read came ahead, of which %.1f%% was used",
             s->budget.slots, s->budget.experts, s->engine,
             s->direct ? "direct" : "buffered", cli_show_bytes(s->disk_speed).text,
             cli_show_bytes((double)s->read_bytes / steps).text,
             s->stall_seconds / steps, 100.0 * (double)s->hits / asked,
             100.0 * (double)s->hits_ahead / asked, 100.0 * (double)s->misses / asked,
             read > 0.0 ? 100.0 * (double)s->hits_ahead / read : 0.0,
             s->ahead ? 100.0 * (double)s->ahead_used / (double)s->ahead : 0.0);
}

static int result_json(cli_context *cli, const struct train_args *args,
                       const struct train_watch *w, double seconds)
{
    double rate;
    count_tokens(w, seconds, &rate);
    const jt_train_event *e = &w->last;
    json_t *json =
        json_pack("{s:o, s:o, s:I, s:I, s:o, s:O*, s:o, s:o}", "config",
                  cli_json_text(args->config, strlen(args->config)), "model",
                  w->path ? cli_json_text(w->path, strlen(w->path)) : json_null(),
                  "steps", (json_int_t)e->step, "tokens", (json_int_t)e->tokens, "loss",
                  e->step ? cli_json_number(e->loss) : json_null(), "held_out",
                  w->held_out, "seconds", cli_json_number(seconds), "tokens_per_second",
                  cli_json_number(rate));
    if (w->store.engine)
        json_object_set_new(json, "store", cli_store_stats_json(&w->store));
    return cli_print_json(cli, json);
}

static void print_domains(const json_t *held_out)
{
    const char *name;
    json_t *loss;
    json_t *domains = json_object_get(held_out, "domains");
    double all = json_number_value(json_object_get(held_out, "loss"));
    if (json_object_size(domains) == 0)
        return;
    printf("%-20s %10s %12s\n", "held out", "loss", "perplexity");
    json_object_foreach(domains, name, loss)
    {
        double value = json_is_number(loss) ? json_number_value(loss) : (double)NAN;
        printf("  %-18s %10.4f %12.4g\n", name, value, exp(value));
    }
    printf("  %-18s %10.4f %12.4g\n", "all", all, exp(all));
}

int train_print_result(cli_context *cli, const struct train_args *args,
                       const struct train_watch *w)
{
    double seconds = cli_seconds() - w->start, rate;
    if (args->json)
        return result_json(cli, args, w, seconds);
    double tokens = count_tokens(w, seconds, &rate);
    print_domains(w->held_out);
    if (w->path)
        printf("model  %s\n", w->path);
    if (w->last.step)
        cli_note(cli, "step %lld, loss %.4f; %s tokens in %s, %s tokens/s",
                 (long long)w->last.step, w->last.loss, cli_show_count(tokens).text,
                 train_show_time(seconds).text, cli_show_count(rate).text);
    if (w->store.engine)
        store_note(cli, w);
    return CLI_DONE;
}
