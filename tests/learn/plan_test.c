/* What a dry run says of memory, beside what a run takes. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "junto/learn.h"
#include "junto/vocabulary.h"
#include "sanitized.h"
#include "scratch.h"

static char folder[64], config[96];

static int set_up(void **state)
{
    static const char text[] =
        "[model]\nlayers = 3\nwidth = 128\nheads = 4\nkv_heads = 2\nexperts = 16\n"
        "experts_used = 4\nexpert_width = 64\nshared_width = 64\nvocab = 2048\ntied = "
        "true\n"
        "[data]\nseq_len = 256\n[[data.source]]\npath = 'data.bin'\nseparator = '0'\n"
        "[train]\nsteps = 2\nbatch = 8\n[output]\ndir = 'run'\n";
    char path[96];
    (void)state;
    snprintf(folder, sizeof folder, "%.63s", scratch_new().dir);
    snprintf(config, sizeof config, "%s/config.toml", folder);
    FILE *f = fopen(config, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, sizeof text - 1, f), sizeof text - 1);
    fclose(f);
    snprintf(path, sizeof path, "%s/data.bin", folder);
    f = fopen(path, "w");
    assert_non_null(f);
    for (int32_t i = 0; i < 20000; i++) {
        int32_t token = i % 500 ? i * 31 % 40 : 0;
        assert_int_equal(fwrite(&token, sizeof token, 1, f), 1);
    }
    fclose(f);
    return 0;
}

static int tear_down(void **state)
{
    char command[96];
    (void)state;
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command);
}

/* Most bytes that this process has held. */
static double peak_bytes(void)
{
    char line[128];
    double kilobytes = 0.0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "VmHWM:", 6) == 0)
            kilobytes = strtod(line + 6, NULL);
    }
    if (f)
        fclose(f);
    return kilobytes * 1024.0;
}

typedef struct memory {
    double taken, said;
} memory;

/* A run, and then what is said of it, in a child of its own: memory that an earlier
 * case has given back would serve the next one again. */
static memory measure(const jt_train_options *options)
{
    int ends[2];
    memory m = {0};
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        double before = peak_bytes();
        jt_train_plan plan = {0};
        jt_err err = {0};
        jt_status status = jt_train(options, &err);
        m.taken = peak_bytes() - before;
        if (status == JT_OK)
            status = jt_train_dry_run(options, &plan, &err);
        m.said = (double)plan.total_bytes;
        if (status != JT_OK)
            fprintf(stderr, "%s\n", err.msg);
        ssize_t wrote = write(ends[1], &m, sizeof m);
        _exit(wrote == sizeof m && status == JT_OK ? 0 : 1);
    }
    assert_int_equal(read(ends[0], &m, sizeof m), sizeof m);
    close(ends[0]);
    close(ends[1]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    return m;
}

/* Runs with these settings take what is said of them, to a tenth. */
static void check(const char *const *settings, size_t n, const char *what)
{
    jt_train_options options = {
        .config = config, .settings = settings, .n_settings = n};
    memory m = measure(&options);
    if (!SANITIZED && (m.taken > 1.1 * m.said || m.taken < 0.9 * m.said))
        fail_msg("%s: %.1f MB were said, %.1f MB taken", what, m.said / 1e6,
                 m.taken / 1e6);
}

static void memory_is_predicted(void **state)
{
    /* small models that are there already take many tokens at a time */
    static const char *const cases[][3] = {
        {"train.threads=2", "optim.kind=adamw", NULL},
        {"train.checkpoint_activations=true", "train.batch=16", NULL},
        {"model.tied=false", "optim.kind=adafactor", NULL},
        {"model.experts=0", "model.ffn_width=512", NULL},
        {"train.threads=2", "train.batch=80", "deepseek2"},
        {"train.threads=1", "train.batch=40", "qwen3next"},
        {"train.threads=1", "train.batch=40", "kimi-linear"},
        {"train.threads=1", "train.batch=40", "minimax-01"},
    };
    (void)state;
    size_t count = SANITIZED ? 1 : sizeof cases / sizeof *cases;
    for (size_t i = 0; i < count; i++) {
        char dir[128];
        char init[256];
        const char *settings[4] = {dir, cases[i][0], cases[i][1], init};
        snprintf(init, sizeof init, "model.init=%s/golden/%s.gguf",
                 getenv("JUNTO_TEST_DATA"), cases[i][2] ? cases[i][2] : "");
        snprintf(dir, sizeof dir, "output.dir=%s/run%zu", folder, i);
        check(settings, cases[i][2] ? 4 : 3, cases[i][1]);
    }
}

/* A dense model in F32 or Q8_0 for the adapters to be tuned with. */
static void make_base(const char *type, char init[192])
{
    char dir[128], output[32];
    const char *settings[] = {dir,
                              output,
                              "model.experts=0",
                              "model.ffn_width=512",
                              "train.steps=1",
                              "train.batch=1"};
    jt_train_options options = {
        .config = config, .settings = settings, .n_settings = 6};
    jt_err err = {0};
    snprintf(dir, sizeof dir, "output.dir=%s/base-%s", folder, type);
    snprintf(output, sizeof output, "output.type=%s", type);
    if (jt_train(&options, &err) != JT_OK)
        fail_msg("%s", err.msg);
    snprintf(init, 192, "model.init=%s/base-%s/model.gguf", folder, type);
}

static void tuning_is_predicted(void **state)
{
    static const char *const cases[][3] = {
        {"F32", "lora", "train.threads=2"},
        {"Q8_0", "lora", "train.threads=2"},
        {"Q8_0", "lora", "train.checkpoint_activations=true"},
        {"F32", "dora", "train.threads=2"},
        {"F32", "shira", "train.threads=2"},
        {"F32", "mos", "adapter.rank=4"},
        {"F32", "poly", "train.threads=2"},
        {"F32", "bits", "train.threads=2"},
        {"F32", "mora", "train.threads=2"},
        {"F32", "mixlora", "train.threads=2"},
        {"Q8_0", "mixlora", "train.checkpoint_activations=true"},
        {"F32", "meteora", "train.threads=2"},
        {"F32", "lora-mixer", "train.threads=2"},
        {"F32", "x-lora", "train.threads=2"},
        {"Q8_0", "x-lora", "train.checkpoint_activations=true"},
        {"F32", "bottleneck", "train.threads=2"},
        {"Q8_0", "bottleneck", "train.checkpoint_activations=true"},
        {"F32", "bottleneck", "adapter.gated=true"},
        {"F32", "mosa", "train.threads=2"},
        {"Q8_0", "mosa", "train.checkpoint_activations=true"},
        {"F32", "mixda", "train.threads=2"},
        {"Q8_0", "mixda", "train.checkpoint_activations=true"},
        {"F32", "soft-prompt", "adapter.front=8"},
        {"F32", "prefix", "adapter.front=8"},
        {"Q8_0", "prefix", "train.checkpoint_activations=true"},
    };
    char init[2][192];
    (void)state;
    make_base("F32", init[0]);
    make_base("Q8_0", init[1]);
    size_t count = SANITIZED ? 1 : sizeof cases / sizeof *cases;
    for (size_t i = 0; i < count; i++) {
        const char *const *c = cases[i];
        char dir[128], kind[64], what[96];
        const char *settings[] = {dir, kind, c[2], init[strcmp(c[0], "F32") != 0]};
        snprintf(dir, sizeof dir, "output.dir=%s/tuned%zu", folder, i);
        snprintf(kind, sizeof kind, "adapter.kind=%s", c[1]);
        snprintf(what, sizeof what, "%s, %s, %s", c[1], c[0], c[2]);
        check(settings, sizeof settings / sizeof *settings, what);
    }
}

/* Text that is all prompt but for the last token, and a vocabulary of bytes. */
static void write_prompts(char path[96], char vocabulary[96])
{
    const char *texts = path;
    jt_vocabulary_options how = {.size = 259};
    jt_err err = {0};
    snprintf(path, 96, "%s/prompts.jsonl", folder);
    snprintf(vocabulary, 96, "%s/vocabulary.gguf", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < 2000; i++) {
        fputs("{\"prompt\":\"", f);
        for (int j = 0; j < 20; j++)
            fputc('a' + (i * 7 + j * 31) % 23, f);
        fputs("\",\"completion\":\"=\"}\n", f);
    }
    assert_int_equal(fclose(f), 0);
    if (jt_vocabulary_train(&texts, 1, vocabulary, &how, NULL, &err) != JT_OK)
        fail_msg("%s", err.msg);
}

/* A plan cannot know how much of the text is prompts: it says what all would take. */
static void prompts_are_predicted(void **state)
{
    char path[96], vocabulary[96], source[128], tokenizer[128], dir[2][128], init[192];
    const char *settings[] = {"model.experts=0",  "model.ffn_width=512",
                              "model.vocab=259",  source,
                              tokenizer,          dir[0],
                              "train.threads=2",  "train.batch=8",
                              "adapter.kind=none"};
    const char *tuning[] = {source,
                            tokenizer,
                            dir[1],
                            init,
                            "train.threads=2",
                            "adapter.kind=p-adapter",
                            "adapter.marker=="};
    jt_train_options base = {.config = config, .settings = settings, .n_settings = 9};
    jt_err err = {0};
    (void)state;
    write_prompts(path, vocabulary);
    snprintf(source, sizeof source, "data.source.0.path=%s", path);
    snprintf(tokenizer, sizeof tokenizer, "data.tokenizer=%s", vocabulary);
    for (int i = 0; i < 2; i++)
        snprintf(dir[i], sizeof dir[i], "output.dir=%s/prompts%d", folder, i);
    snprintf(init, sizeof init, "model.init=%s/prompts0/model.gguf", folder);
    if (jt_train(&base, &err) != JT_OK)
        fail_msg("%s", err.msg);
    check(tuning, sizeof tuning / sizeof *tuning, "p-adapter");
}

static void the_rest_of_the_plan(void **state)
{
    jt_train_options options = {.config = config};
    jt_train_plan plan;
    jt_err err = {0};
    (void)state;
    assert_int_equal(jt_train_dry_run(&options, &plan, &err), JT_OK);
    uint64_t attention = 128 + 128 * 128 + 2 * 64 * 128 + 2 * 32 + 128 * 128;
    uint64_t expert = 3 * 64 * 128, router = 16 * 128;
    uint64_t ends = 2048 * 128 + 128;
    uint64_t always = 3 * (attention + 128 + router + expert) + ends;
    assert_int_equal(plan.n_params, always + 3 * 16 * expert);
    assert_int_equal(plan.n_trained_params, plan.n_params);
    assert_int_equal(plan.tokens_per_step % (8 * 256), 0);
    assert_int_equal(plan.tokens, 2 * plan.tokens_per_step);
    assert_true(plan.flops_per_token > 6.0 * (double)(3 * (attention + 4 * expert)));
    assert_true(plan.peak_flops > 1e6);
    assert_true(plan.seconds > 0.0);
}

int main(void)
{
#ifdef __GLIBC__
    mallopt(M_PERTURB, 0); /* memory that is filled on allocation is taken at once */
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_predicted),
        cmocka_unit_test(tuning_is_predicted),
        cmocka_unit_test(prompts_are_predicted),
        cmocka_unit_test(the_rest_of_the_plan),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
