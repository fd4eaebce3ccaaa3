/* What adapters cost while tokens are generated: sequences that all have adapters of
 * their own, or a mixture that is routed token by token, against the same sequences
 * without, in the same run.
 *
 *     build/bench/adapters MODEL [sequences=16] [rank=16] [mixed=0] [k=2] [type=f16]
 *                          [factors=auto] [target=attn_|ffn_] [tokens=16] [rounds=15]
 *                          [threads=1]
 *
 * Values of the adapters are random, of the type that a file would have them in (f32,
 * f16, bf16), and are kept as --adapter-type says (auto, exact, q8_0). With mixed=N
 * each sequence has a mixture of N of them, of which the gates of MeteoRA choose k for
 * each token and weight; one mixture for all. Both take turns, so that other work of
 * the machine meets them alike; time is that of the processor. A line tells the median
 * of the rounds' ratios, the least and most, and that of the shortest times of both. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "adapt/blend.h"
#include "base/half.h"
#include "base/random.h"
#include "format/gguf_file.h"
#include "junto/junto.h"
#include "model/model.h"
#include "run/session.h"

enum { MAX_SEQUENCES = 256, MAX_ROUNDS = 1000, PROMPT = 16 };

static struct {
    const char *model, *type, *target, *factors;
    int sequences, rank, mixed, k, tokens, rounds, threads;
} args = {.type = "f16",
          .target = "attn_|ffn_",
          .factors = "auto",
          .sequences = 16,
          .rank = 16,
          .k = 2,
          .tokens = 16,
          .rounds = 15,
          .threads = 1};

static jt_model *model;
static jt_session *host, *plain[MAX_SEQUENCES], *adapted[MAX_SEQUENCES];
static jt_adapter *adapters[MAX_SEQUENCES];
static jt_attachment made[MAX_SEQUENCES];
static double params;

static void check(jt_status status, const jt_err *err)
{
    if (status == JT_OK)
        return;
    fprintf(stderr, "adapters: %s\n", err->msg);
    exit(1);
}

/* ---- adapters ---- */

/* As a file of the type would have it. */
static float rounded(float x)
{
    if (!strcmp(args.type, "bf16"))
        return jt_bf16_to_float(jt_float_to_bf16(x));
    if (!strcmp(args.type, "f16"))
        return jt_f16_to_float(jt_float_to_f16(x));
    return x;
}

static void fill(jt_tensor *t, jt_rng *rng, float size)
{
    enum { SOME = 1021 }; /* that come again and again */
    float *x = t->data;
    size_t n = jt_rows(t) * jt_cols(t);
    for (size_t i = 0; i < n; i++)
        x[i] =
            i < SOME ? rounded(size * (2.0f * jt_rng_float(rng) - 1.0f)) : x[i - SOME];
    params += (double)n;
}

static bool is_target(const char *name)
{
    char list[256], *rest = list;
    snprintf(list, sizeof list, "%s", args.target);
    for (char *word; (word = strsep(&rest, "|"));) {
        if (*word && strstr(name, word))
            return true;
    }
    return false;
}

static void add_target(jt_adapter *a, jt_str name, const size_t shape[3], jt_rng *rng)
{
    const float size = 0.02f;
    jt_err err;
    if (a->blend) {
        jt_adapter_bank *bank;
        check(jt_blend_add(a->blend, &bank, name, shape[1], shape[2], (size_t)args.rank,
                           &err),
              &err);
        fill(&bank->a, rng, size);
        fill(&bank->b, rng, size);
        fill(&bank->gate, rng, 1.0f);
    } else {
        jt_adapter_slot *slot;
        check(jt_adapter_add(a, &slot, name, shape, (size_t)args.rank, 16.0f, &err),
              &err);
        fill(&slot->part[JT_LOW_A], rng, size);
        fill(&slot->part[JT_LOW_B], rng, size);
    }
}

static jt_adapter *make_adapter(uint64_t seed)
{
    const jt_gguf *file = jt_model_file(model);
    jt_adapter *a;
    jt_rng rng = {.seed = seed};
    jt_err err;
    params = 0;
    check(jt_adapter_new(&a, &jt_adapter_lora, "(made)", &err), &err);
    if (args.mixed)
        check(jt_blend_new(&a->blend, jt_blend_method_find("meteora", 7),
                           (size_t)args.mixed, args.k, &err),
              &err);
    for (uint64_t i = 0; i < jt_gguf_tensor_count(file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(file, i);
        size_t shape[3];
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
        if (is_target(name) && strstr(name, ".weight") &&
            jt_adapter_target(file, t->name, shape, NULL) == JT_OK &&
            !(args.mixed && shape[0] > 1))
            add_target(a, t->name, shape, &rng);
    }
    return a;
}

/* ---- measuring ---- */

static int32_t token_at(int sequence, int i)
{
    uint32_t n = (uint32_t)model->params.n_vocab;
    return (int32_t)((uint32_t)(sequence * 977 + i + 1) * 2654435761u % n);
}

static void run(jt_session *const *sessions, int first, int count)
{
    static int32_t tokens[MAX_SEQUENCES][PROMPT];
    jt_part parts[MAX_SEQUENCES];
    jt_err err;
    for (int s = 0; s < args.sequences; s++) {
        for (int i = 0; i < count; i++)
            tokens[s][i] = token_at(s, first + i);
        parts[s] = (jt_part){sessions[s], tokens[s], (size_t)count};
    }
    check(jt_session_eval_together(parts, (size_t)args.sequences, NULL, &err), &err);
}

static double processor_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds per pass. */
static double decode(jt_session *const *sessions)
{
    for (int s = 0; s < args.sequences; s++)
        jt_session_truncate(sessions[s], 0);
    run(sessions, 0, PROMPT);
    double start = processor_seconds();
    for (int i = 0; i < args.tokens; i++)
        run(sessions, PROMPT + i, 1);
    return (processor_seconds() - start) / args.tokens;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(void)
{
    double seconds[MAX_ROUNDS], changed[MAX_ROUNDS], ratio[MAX_ROUNDS];
    decode(plain);
    decode(adapted);
    for (int r = 0; r < args.rounds; r++) {
        seconds[r] = decode(plain);
        changed[r] = decode(adapted);
        ratio[r] = seconds[r] / changed[r];
    }
    size_t n = (size_t)args.rounds;
    qsort(seconds, n, sizeof *seconds, compare);
    qsort(changed, n, sizeof *changed, compare);
    qsort(ratio, n, sizeof *ratio, compare);
    printf("{\"bench\": \"adapters\", \"sequences\": %d, \"rank\": %d, \"mixed\": %d, "
           "\"k\": %d, \"type\": \"%s\", \"factors\": \"%s\", \"threads\": %d, "
           "\"rounds\": %d, "
           "\"params\": %.0f, \"plain_ms\": %.3f, \"speed\": %.4f, \"least\": %.4f, "
           "\"most\": %.4f, \"best\": %.4f}\n",
           args.sequences, args.rank, args.mixed, args.mixed ? args.k : 0, args.type,
           args.factors, args.threads, args.rounds, params, 1e3 * seconds[n / 2],
           ratio[n / 2], ratio[0], ratio[n - 1], seconds[0] / changed[0]);
}

/* ---- the whole ---- */

static void read_args(int argc, char **argv)
{
    const struct {
        const char *name;
        int *value, most;
    } numbers[] = {{"sequences=", &args.sequences, MAX_SEQUENCES},
                   {"rank=", &args.rank, 1024},
                   {"mixed=", &args.mixed, 256},
                   {"k=", &args.k, 256},
                   {"tokens=", &args.tokens, 4096},
                   {"rounds=", &args.rounds, MAX_ROUNDS},
                   {"threads=", &args.threads, 1024}};
    for (int i = 1; i < argc; i++) {
        size_t n = 0;
        while (n < sizeof numbers / sizeof *numbers &&
               strncmp(argv[i], numbers[n].name, strlen(numbers[n].name)) != 0)
            n++;
        if (n < sizeof numbers / sizeof *numbers) {
            int value = atoi(argv[i] + strlen(numbers[n].name));
            *numbers[n].value = value < numbers[n].most ? value : numbers[n].most;
        } else if (strncmp(argv[i], "type=", 5) == 0) {
            args.type = argv[i] + 5;
        } else if (strncmp(argv[i], "factors=", 8) == 0) {
            args.factors = argv[i] + 8;
        } else if (strncmp(argv[i], "target=", 7) == 0) {
            args.target = argv[i] + 7;
        } else {
            args.model = argv[i];
        }
    }
}

static void open_session(jt_session **out, const jt_attachment *worn)
{
    jt_err err;
    jt_session_options o = {.n_ctx = PROMPT + args.tokens,
                            .threads = args.threads,
                            .adapter_type = args.factors,
                            .beside = host};
    check(jt_session_new(out, model, &o, &err), &err);
    if (worn)
        check(jt_session_wear(*out, &worn, (float[]){1.0f}, 1, &err), &err);
}

int main(int argc, char **argv)
{
    jt_err err;
    read_args(argc, argv);
    if (!args.model || args.sequences < 1 || args.rounds < 1) {
        fprintf(stderr, "use: adapters MODEL [sequences=N] [rank=N] [mixed=N] ..\n");
        return 2;
    }
    check(jt_model_load(&model, args.model, &err), &err);
    open_session(&host, NULL);
    for (int s = 0; s < args.sequences; s++) {
        if (!args.mixed || s == 0) {
            adapters[s] = make_adapter((uint64_t)s + 1);
            check(jt_attachment_make(&made[s], host->ctx, model, adapters[s], 1.0f,
                                     false, &err),
                  &err);
        }
        open_session(&plain[s], NULL);
        open_session(&adapted[s], &made[args.mixed ? 0 : s]);
    }
    measure();
    for (int s = args.sequences; s-- > 0;) {
        jt_session_free(plain[s]);
        jt_session_free(adapted[s]);
        jt_attachment_free(&made[s]);
        jt_adapter_free(adapters[s]);
    }
    jt_session_free(host);
    jt_model_free(model);
    return 0;
}
