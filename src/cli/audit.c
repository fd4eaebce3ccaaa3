#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "verbs.h"

static const double MARGIN = 0.05; /* nats that a harder model may lose */

struct audit_args {
    cli_common common;
    const char *model, *harmful, *benign, *mode, *before;
    int window, windows, draws, top, targets;
    int64_t seed;
    cli_ints percent;
    bool json;
    jt_session_options session;
};

static const cli_option operands[] = {CLI_MODEL_OPERAND(struct audit_args), {0}};

static const cli_option options[] = {
    {.flags = "--harmful",
     .kind = CLI_PATH,
     .value = "A.txt",
     .required = true,
     .offset = offsetof(struct audit_args, harmful),
     .help =
         "text A, in which the model does what is audited: refusing what is harmful, "
         "or anything else that it learnt, such as writing French"},
    {.flags = "--benign",
     .kind = CLI_PATH,
     .value = "B.txt",
     .required = true,
     .offset = offsetof(struct audit_args, benign),
     .help = "text B, which is like it but for that"},
    {.flags = "-c --ctx --ctx-size",
     .kind = CLI_INT,
     .value = "N",
     .initial = "128",
     .offset = offsetof(struct audit_args, window),
     .min = 2,
     .max = 1 << 24,
     .help = "tokens per window"},
    {.flags = "--windows",
     .kind = CLI_INT,
     .value = "N",
     .initial = "64",
     .offset = offsetof(struct audit_args, windows),
     .min = 8,
     .max = 1 << 20,
     .help = "at most so many windows of each text; half of them for the ranking, half "
             "for the losses"},
    {.flags = "--percent",
     .kind = CLI_INTS,
     .value = "LIST",
     .offset = offsetof(struct audit_args, percent),
     .min = 1,
     .max = 99,
     .help = "percent of all experts that are masked, rising (default: 1,2,5,10,20)"},
    {.flags = "--before",
     .kind = CLI_PATH,
     .value = "MODEL",
     .offset = offsetof(struct audit_args, before),
     .help = "audit this related model, too, such as MODEL before it was pruned, tuned "
             "or hardened: does what is found there hold here, and is MODEL harder?"},
    {.flags = "--neurons",
     .kind = CLI_INT,
     .value = "PERCENT",
     .initial = "10",
     .offset = offsetof(struct audit_args, targets),
     .max = 100,
     .help =
         "of the experts, the first of the ranking, whose neurons are looked at; 0: "
         "none"},
    {.flags = "--mode",
     .kind = CLI_CHOICE,
     .value = "reroute|zero",
     .initial = "reroute",
     .offset = offsetof(struct audit_args, mode),
     .help =
         "what becomes of the work of masked experts: the next ones do it, or nobody"},
    {.flags = "--draws",
     .kind = CLI_INT,
     .value = "N",
     .initial = "8",
     .offset = offsetof(struct audit_args, draws),
     .min = 2,
     .max = 1000,
     .help = "random masks that each mask is compared with"},
    {.flags = "-s --seed",
     .kind = CLI_SEED,
     .value = "N",
     .initial = "1",
     .offset = offsetof(struct audit_args, seed),
     .help = "of the random masks; -1: a fresh one"},
    {.flags = "--top",
     .kind = CLI_INT,
     .value = "N",
     .initial = "10",
     .offset = offsetof(struct audit_args, top),
     .min = 0,
     .max = 1 << 20,
     .help = "how many experts of the ranking to show"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct audit_args, json),
     .help = "one JSON object instead of text, with all experts"},
    {0}};

/* ---- for people ---- */

static void print_profile(const jt_audit *a, int top)
{
    printf("\n%5s %6s %8s %8s %10s %8s %9s\n", "layer", "expert", "rate A", "rate B",
           "disparity", "z", "q");
    for (size_t i = 0; i < a->n_experts && i < (size_t)top; i++) {
        const jt_audit_expert *e = &a->experts[i];
        printf("%5d %6d %8.4f %8.4f %+10.4f %8.1f %9.2g\n", e->layer, e->expert,
               e->rate_a, e->rate_b, e->disparity, e->z, e->q);
    }
    printf("\nshare of the disparity by layer ");
    for (size_t i = 0; i < a->n_layers; i++)
        printf(" %d: %.2f", a->layers[i].layer, a->layers[i].share);
    printf("\n");
}

static void print_curve(const char *units, const jt_audit_point *points, size_t n)
{
    printf("\n%6s %7s %21s %10s %17s %9s\n", "masked", units, "kept: most disparate",
           "busiest", "random", "fragility");
    for (size_t i = 0; i < n; i++) {
        const jt_audit_point *p = &points[i];
        printf("%5.3g%% %7zu %20.4f%s %10.4f %8.4f +- %.4f %9.2f\n",
               100 * (double)p->share, p->masked, p->top.kept, p->apart ? "*" : " ",
               p->busy.kept, p->random.kept, p->random_sd, p->fragility);
    }
}

static void print_neurons(const jt_audit *a, int top)
{
    printf("\nneurons of the first %zu experts: %zu\n", a->n_targets, a->n_neurons);
    printf("%5s %6s %6s %8s %8s %8s\n", "layer", "expert", "neuron", "size A", "size B",
           "d");
    for (size_t i = 0; i < a->n_neurons && i < (size_t)top; i++) {
        const jt_audit_neuron *n = &a->neurons[i];
        printf("%5d %6d %6d %8.4f %8.4f %+8.3f\n", n->layer, n->expert, n->neuron,
               n->mean_a, n->mean_b, n->d);
    }
    print_curve("neurons", a->neuron_points, a->n_points);
}

static void print_change(const jt_audit *a, const jt_audit_change *c)
{
    printf("\nsince --before\n");
    printf("transfer       correlation of the disparities %.3f, overlap of the first "
           "tenth %.3f\n",
           c->correlation, c->overlap);
    printf("               kept with the experts that were first there:");
    for (size_t i = 0; i < a->n_points; i++)
        printf(" %.4f", a->points[i].related.kept);
    printf("\nloss           A %+.4f  B %+.4f\n", c->loss_a, c->loss_b);
    printf("concentration  %+.3f, Gini %+.3f\n", c->concentration, c->gini);
    printf("lost by masks  %+.4f experts, %+.4f neurons; fragility %+.2f\n", c->lost,
           c->lost_neurons, c->fragility);
    printf("harder         %s\n", c->harder ? "yes" : "no");
}

static void print(const jt_audit *a, const jt_audit_change *change, int top)
{
    printf("windows        %zu of A, %zu of B, of %d tokens\n", a->windows_a,
           a->windows_b, a->window);
    printf("loss           A %.4f  B %.4f nats per token\n", a->whole.a, a->whole.b);
    printf("shift          %.1f%% of the routing (by chance %.1f%%)\n", 100 * a->shift,
           100 * a->shift_chance);
    printf(
        "concentration  %.3f (by chance %.3f); Gini %.3f, as if %.1f of %zu experts\n",
        a->concentration, a->concentration_chance, a->gini, a->effective, a->n_experts);
    printf("disparity      ");
    for (int i = 0; i < JT_AUDIT_TOPS; i++)
        printf("%s%.0f%% in the first %.0f%%", i ? ", " : "", 100 * a->top[i],
               100 * jt_audit_top[i]);
    printf(" of the experts\n");
    printf("significant    %zu experts (q < 0.05)\n", a->significant);
    printf("stability      %.3f of the first tenth\n", a->stability);
    printf("readable       AUC %.3f: A or B, from the routing of a window\n", a->auc);
    if (top)
        print_profile(a, top);
    print_curve("experts", a->points, a->n_points);
    if (a->n_neurons)
        print_neurons(a, top);
    printf("* below random masks by over two standard deviations\n");
    if (change)
        print_change(a, change);
}

/* ---- JSON ---- */

static json_t *loss_json(const jt_audit_loss *l)
{
    return json_pack("{s:o, s:o, s:o}", "a", cli_json_number(l->a), "b",
                     cli_json_number(l->b), "kept", cli_json_number(l->kept));
}

static json_t *points_json(const jt_audit_point *points, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        const jt_audit_point *p = &points[i];
        json_array_append_new(
            list,
            json_pack("{s:f, s:I, s:o, s:o, s:o, s:o, s:b, s:o}", "share",
                      (double)p->share, "masked", (json_int_t)p->masked, "top",
                      loss_json(&p->top), "busy", loss_json(&p->busy), "random",
                      loss_json(&p->random), "random_sd", cli_json_number(p->random_sd),
                      "apart", p->apart, "fragility", cli_json_number(p->fragility)));
    }
    return list;
}

static json_t *neurons_json(const jt_audit *a)
{
    json_t *list = json_array();
    for (size_t i = 0; i < a->n_neurons; i++) {
        const jt_audit_neuron *n = &a->neurons[i];
        json_array_append_new(list, json_pack("{s:i, s:i, s:i, s:f, s:f, s:f}", "layer",
                                              n->layer, "expert", n->expert, "neuron",
                                              n->neuron, "mean_a", n->mean_a, "mean_b",
                                              n->mean_b, "d", n->d));
    }
    return json_pack("{s:I, s:o, s:o}", "experts", (json_int_t)a->n_targets, "points",
                     points_json(a->neuron_points, a->n_neurons ? a->n_points : 0),
                     "neurons", list);
}

static json_t *change_json(const jt_audit *a, const jt_audit_change *c)
{
    if (!c)
        return json_null();
    json_t *kept = json_array();
    for (size_t i = 0; i < a->n_points; i++)
        json_array_append_new(kept, cli_json_number(a->points[i].related.kept));
    return json_pack("{s:f, s:f, s:o, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:b}",
                     "correlation", c->correlation, "overlap", c->overlap, "kept", kept,
                     "loss_a", c->loss_a, "loss_b", c->loss_b, "gini", c->gini,
                     "concentration", c->concentration, "lost", c->lost, "lost_neurons",
                     c->lost_neurons, "fragility", c->fragility, "harder", c->harder);
}

static json_t *experts_json(const jt_audit *a)
{
    json_t *list = json_array();
    for (size_t i = 0; i < a->n_experts; i++) {
        const jt_audit_expert *e = &a->experts[i];
        json_array_append_new(
            list, json_pack("{s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:o, s:o}", "layer",
                            e->layer, "expert", e->expert, "rate_a", e->rate_a,
                            "rate_b", e->rate_b, "mass_a", e->mass_a, "mass_b",
                            e->mass_b, "disparity", e->disparity, "z",
                            cli_json_number(e->z), "q", cli_json_number(e->q)));
    }
    return list;
}

static json_t *audit_json(const struct audit_args *args, const jt_audit *a,
                          const jt_audit_change *change)
{
    json_t *layers = json_array(), *top = json_array();
    for (size_t i = 0; i < a->n_layers; i++)
        json_array_append_new(
            layers, json_pack("{s:i, s:i, s:f}", "layer", a->layers[i].layer, "experts",
                              a->layers[i].n_experts, "share", a->layers[i].share));
    for (int i = 0; i < JT_AUDIT_TOPS; i++)
        json_array_append_new(
            top, json_pack("{s:f, s:f}", "first", jt_audit_top[i], "share", a->top[i]));
    return json_pack(
        "{s:o, s:I, s:I, s:i, s:o, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:I, s:f, s:f, "
        "s:o, s:o, s:o, s:o, s:o}",
        "model", cli_json_text(args->model, strlen(args->model)), "windows_a",
        (json_int_t)a->windows_a, "windows_b", (json_int_t)a->windows_b, "window",
        a->window, "whole", loss_json(&a->whole), "shift", a->shift, "shift_chance",
        a->shift_chance, "concentration", a->concentration, "concentration_chance",
        a->concentration_chance, "gini", a->gini, "effective", a->effective, "top", top,
        "significant", (json_int_t)a->significant, "stability", a->stability, "auc",
        a->auc, "layers", layers, "points", points_json(a->points, a->n_points),
        "experts", experts_json(a), "inside", neurons_json(a), "change",
        change_json(a, change));
}

/* ---- auditing ---- */

static jt_status read_tokens(const cli_model *m, const char *path, jt_tokens *tokens,
                             jt_err *err)
{
    char *text;
    size_t len;
    JT_TRY(cli_read_text(&text, &len, path, err));
    jt_status status =
        jt_encode(m->tokenizer, text, len, JT_ENCODE_ADD_SPECIAL, tokens, err);
    free(text);
    return status;
}

/* What was found in a model, and its texts as tokens. */
typedef struct finding {
    cli_model m;
    jt_tokens tokens[2];
    jt_audit audit;
} finding;

static jt_status audit(cli_context *cli, const struct audit_args *args,
                       const char *path, const jt_audit *related, finding *f,
                       jt_err *err)
{
    float shares[99];
    jt_audit_options how = {.window = args->window,
                            .windows = (size_t)args->windows,
                            .shares = shares,
                            .n_shares = args->percent.count,
                            .zero = !strcmp(args->mode, "zero"),
                            .targets =
                                args->targets ? (float)args->targets / 100.0f : -1.0f,
                            .related = related,
                            .draws = args->draws,
                            .seed = cli_seed(args->seed),
                            .session = args->session,
                            .progress = cli_progress(cli)};
    if (args->percent.count > 99)
        return jt_fail(err, JT_E_ARG, "--percent: more than 99 numbers");
    for (size_t i = 0; i < args->percent.count; i++)
        shares[i] = (float)args->percent.items[i] / 100.0f;
    JT_TRY(cli_load(&f->m, path, true, err));
    JT_TRY(read_tokens(&f->m, args->harmful, &f->tokens[0], err));
    JT_TRY(read_tokens(&f->m, args->benign, &f->tokens[1], err));
    jt_audit_texts texts = {f->tokens[0].ids, f->tokens[0].count, f->tokens[1].ids,
                            f->tokens[1].count};
    return jt_audit_run(&f->audit, f->m.model, &texts, &how, err);
}

static void forget(finding *f)
{
    jt_audit_free(&f->audit);
    free(f->tokens[0].ids);
    free(f->tokens[1].ids);
    cli_unload(&f->m);
}

static jt_status audit_both(cli_context *cli, const struct audit_args *args,
                            finding *before, finding *now, jt_audit_change *change,
                            jt_err *err)
{
    if (!args->before)
        return audit(cli, args, args->model, NULL, now, err);
    jt_status status = audit(cli, args, args->before, NULL, before, err);
    if (status != JT_OK)
        return jt_fail_within(err, status, "--before");
    JT_TRY(audit(cli, args, args->model, &before->audit, now, err));
    return jt_audit_compare(change, &before->audit, &now->audit, MARGIN, err);
}

static int run(cli_context *cli, const void *raw)
{
    const struct audit_args *args = raw;
    jt_err err = {0};
    finding before = {0}, now = {0};
    jt_audit_change change;
    cli_interrupt_catch();
    jt_status status = audit_both(cli, args, &before, &now, &change, &err);
    const jt_audit_change *known = args->before ? &change : NULL;
    cli_progress_clear(cli);
    int code = CLI_DONE;
    if (status != JT_OK)
        code = cli_fail(cli, &err);
    else if (args->json)
        code = cli_print_json(cli, audit_json(args, &now.audit, known));
    else
        print(&now.audit, known, args->top);
    forget(&before);
    forget(&now);
    return code;
}

static const cli_group groups[] = {
    {"Flags", options, 0},
    {NULL, cli_threads_options, offsetof(struct audit_args, session)},
    {NULL, cli_kernel_options, offsetof(struct audit_args, session)},
    {NULL, cli_common_options, 0},
    {0}};

static const char *const examples[] = {
    "junto audit model.gguf --harmful refused.txt --benign answered.txt",
    "how much refusing hangs on few experts, in texts with the model's own answers",
    "junto audit model.gguf --harmful french.txt --benign novels.txt --mode zero",
    "the same of writing French, with experts that are lost",
    "junto audit hard.gguf --before model.gguf --harmful no.txt --benign yes.txt",
    "is it harder to break than it was, and do masks of the old model work on it?",
    NULL};

const cli_verb cli_verb_audit = {
    .name = "audit",
    .section = "Measure",
    .summary = "measure how much a behaviour hangs on few experts",
    .details =
        "For owners of a model: ranks experts by how much more text A uses them than "
        "text B, says how few have most of that difference, and masks the first of "
        "them "
        "to see what is left of the likelihood of A beyond what becomes of that of B; "
        "random experts and the busiest ones, as many of each layer, are masked for "
        "comparison. A behaviour that few experts carry is easily broken.",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct audit_args),
    .run = run,
};
