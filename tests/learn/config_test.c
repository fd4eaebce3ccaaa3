/* Configurations: defaults, files, settings, and every kind of mistake in them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "junto/learn.h"
#include "learn/config.h"
#include "scratch.h"

#define COUNT(cases) (sizeof(cases) / sizeof *(cases))

/* The least that a run needs. */
static const char least[] = "[data]\ntokenizer = \"tok.gguf\"\n"
                            "[[data.source]]\npath = \"books/a.txt\"\n";
static const char least_json[] =
    "{\"data\": {\"tokenizer\": \"t\", \"source\": [{\"path\": \"a\"}]}}";

static const char *write_file(const char *name, const char *text)
{
    const char *path = scratch_path(&scratch_dir, name);
    scratch_write(path, text, strlen(text));
    return path;
}

/* The least configuration with settings; the message when it is refused. */
static jt_status parse(jt_config *config, const char *const *settings, size_t n,
                       jt_err *err)
{
    *err = (jt_err){0};
    *config = (jt_config){0};
    return jt_config_parse(config, least_json, settings, n, err);
}

static void defaults(void **state)
{
    (void)state;
    jt_config c;
    jt_err err = {0};
    const char *path = write_file("run.toml", least);
    assert_int_equal(jt_config_read(&c, path, NULL, 0, &err), JT_OK);
    assert_string_equal(c.model.family, "junto");
    assert_string_equal(c.model.init, "");
    assert_int_equal(c.model.width, 128);
    assert_true(c.model.tied);
    assert_string_equal(c.router.select, "topk");
    assert_string_equal(c.optim.kind, "adamw");
    assert_string_equal(c.optim.schedule, "cosine");
    assert_true(c.optim.lr == 1e-3 && c.model.norm_eps == 1e-5);
    assert_int_equal(c.data.n_sources, 1);
    assert_null(c.data.source[0].separator);
    assert_null(c.data.source[0].domain);
    assert_int_equal(c.optim.n_groups, 0);
    /* What follows from other keys. */
    assert_int_equal(c.model.kv_heads, 4);
    assert_int_equal(c.model.head_dim, 32);
    assert_int_equal(c.model.context, 256);
    assert_int_equal(c.data.seed, 1);
    assert_int_equal(c.optim.warmup, 50);
    assert_int_equal(c.optim.decay_steps, 200);
    assert_true(c.optim.final_lr == 1e-4);
    jt_config_free(&c);
    jt_config_free(&c);
}

static void paths(void **state)
{
    (void)state;
    jt_config c;
    char text[600], expected[300];
    snprintf(text, sizeof text,
             "[model]\ninit = \"../m.gguf\"\n%s[[data.source]]\npath = \"/abs.npy\"\n",
             least);
    const char *const settings[] = {"data.source.2.path=here.txt"};
    const char *path = write_file("run.toml", text);
    assert_int_equal(jt_config_read(&c, path, settings, 1, NULL), JT_OK);
    snprintf(expected, sizeof expected, "%s/books/a.txt", scratch_dir.dir);
    assert_string_equal(c.data.source[0].path, expected);
    assert_string_equal(c.data.source[1].path, "/abs.npy");
    assert_string_equal(c.data.source[2].path, "here.txt");
    snprintf(expected, sizeof expected, "%s/../m.gguf", scratch_dir.dir);
    assert_string_equal(c.model.init, expected);
    snprintf(expected, sizeof expected, "%s/out", scratch_dir.dir);
    assert_string_equal(c.output.dir, expected);
    jt_config_free(&c);
}

static void json_file(void **state)
{
    (void)state;
    jt_config c;
    const char *path = write_file("run.json", least_json);
    assert_int_equal(jt_config_read(&c, path, NULL, 0, NULL), JT_OK);
    assert_int_equal(c.model.layers, 4);
    jt_config_free(&c);
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"{\"train\":\n{\"steps\" 1}}", "line 2: ':' expected near '1'"},
        {"{\"train\": {}, \"train\": {}}",
         "line 1: duplicate object key near '\"train\"'"},
        {"[1]", "expected an object of sections"},
        {"{\"train\": {\"steps\": null}}",
         "train.steps: expected a whole number, 1 to 1000000000, not null"},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        jt_err err = {0};
        char expected[400];
        path = write_file("bad.json", bad[i].text);
        assert_int_not_equal(jt_config_read(&c, path, NULL, 0, &err), JT_OK);
        snprintf(expected, sizeof expected, "'%s': %s", path, bad[i].message);
        assert_string_equal(err.msg, expected);
    }
}

/* The copy that is kept beside the checkpoints says the same, to the last bit. */
static void round_trip(void **state)
{
    (void)state;
    static const char *const settings[] = {
        "optim.lr=0.1",
        "optim.beta2=0.99",
        "optim.final_lr=1e-300",
        "data.source.0.separator=",
        "data.source.0.domain=\"q\\\"\\u00e9\"",
        "data.source.1.path=b",
        "optim.group.0.pattern=*.weight",
        "optim.group.0.frozen=true",
        "train.seed=9223372036854775807",
    };
    jt_config a, b;
    jt_err err;
    if (parse(&a, settings, COUNT(settings), &err) != JT_OK)
        fail_msg("%s", err.msg);
    assert_string_equal(a.data.source[0].separator, "");
    assert_string_equal(a.data.source[0].domain, "q\"é");
    assert_true(a.optim.final_lr == 1e-300);
    assert_true(a.train.seed == INT64_MAX);
    assert_string_equal(a.optim.group[0].kind, "adamw");
    assert_true(a.optim.group[0].weight_decay == 0.1);
    char *first = jt_config_json(&a);
    assert_int_equal(jt_config_parse(&b, first, NULL, 0, &err), JT_OK);
    char *second = jt_config_json(&b);
    assert_string_equal(first, second);
    assert_true(b.optim.final_lr == 1e-300 && b.optim.weight_decay == 0.1);
    assert_null(b.data.source[1].separator);
    free(first);
    free(second);
    jt_config_free(&a);
    jt_config_free(&b);
}

static void settings_win(void **state)
{
    (void)state;
    jt_config c;
    jt_err err = {0};
    static const char *const settings[] = {
        "train.steps=1e4",         "train.steps=2_000",  "model.tied=false",
        "router.select=\"topk\"",  "data.tokenizer=a=b", "optim.lr=2",
        "data.source.0.domain=007"};
    const char *path = write_file("run.toml", least);
    assert_int_equal(jt_config_read(&c, path, settings, COUNT(settings), &err), JT_OK);
    assert_int_equal(c.train.steps, 2000);
    assert_false(c.model.tied);
    assert_string_equal(c.data.tokenizer, "a=b");
    assert_string_equal(c.data.source[0].domain, "007");
    assert_true(c.optim.lr == 2.0);
    jt_config_free(&c);
}

/* Settings on the least configuration, each with its message. */
static void refused_settings(void **state)
{
    (void)state;
    static const struct {
        const char *setting, *message;
    } cases[] = {
        {"steps", "setting 'steps' is not of the form key=value"},
        {"=1", "setting '=1' is not of the form key=value"},
        {"model.layrs=2", "unknown key 'model.layrs' (did you mean 'model.layers'?)"},
        {"lr=1", "unknown key 'lr' (did you mean 'optim.lr'?)"},
        {"train.lr=1", "unknown key 'train.lr' (did you mean 'optim.lr'?)"},
        {"modle.width=1", "unknown key 'modle.width' (did you mean 'model.width'?)"},
        {"x.y=1", "unknown key 'x.y' (see 'junto train --help-keys')"},
        {"data.source.path=a",
         "unknown key 'data.source.path' (did you mean 'data.source.0.path'?)"},
        {"optim.group.0.patern=*",
         "unknown key 'optim.group.0.patern' (did you mean 'optim.group.0.pattern'?)"},
        {"data.source.2.path=a", "data.source.2: there are 1, counted from 0"},
        {"data.source.99999999999.path=a",
         "data.source.99999999999: there are 1, counted from 0"},
        {"train.steps=0",
         "train.steps: expected a whole number, 1 to 1000000000, not 0"},
        {"train.steps=1.5",
         "train.steps: expected a whole number, 1 to 1000000000, not 1.5"},
        {"train.steps=many",
         "train.steps: expected a whole number, 1 to 1000000000, not 'many'"},
        {"train.seed=-1", "train.seed: expected a whole number, 0 or more, not -1"},
        {"train.seed=9223372036854775808",
         "train.seed: expected a whole number, 0 or more, not '9223372036854775808'"},
        {"optim.lr=[1]", "optim.lr: expected a number, 0 to 1000000, not a list"},
        {"optim.lr=nan", "optim.lr: expected a number, 0 to 1000000, not 'nan'"},
        {"model.tied=1", "model.tied: expected one of true, false, not 1"},
        {"optim.kind=adam",
         "optim.kind: expected one of adamw, adafactor, sgd, muon, not 'adam'"},
        {"data.tokenizer='x", "data.tokenizer: the text has no closing quote"},
        {"data.tokenizer=\xff", "data.tokenizer: the value is not UTF-8"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        jt_config c;
        jt_err err;
        assert_int_not_equal(parse(&c, &cases[i].setting, 1, &err), JT_OK);
        assert_string_equal(err.msg, cases[i].message);
        assert_null(c.memory);
    }
}

/* Keys that are fine alone. */
static void contradictions(void **state)
{
    (void)state;
    static const struct {
        const char *settings[4], *message;
    } cases[] = {
        {{"model.heads=3"}, "model.heads: 3 does not divide model.width (128)"},
        {{"model.kv_heads=3"}, "model.kv_heads: 3 does not divide model.heads (4)"},
        {{"model.head_dim=31"}, "model.head_dim: 31 is odd"},
        {{"model.dense_layers=5"}, "model.dense_layers: 5, but model.layers is 4"},
        {{"model.dense_layers=1"}, "model.ffn_width: dense layers need one"},
        {{"model.experts=0"}, "model.ffn_width: dense layers need one"},
        {{"model.experts=1"}, "model.experts_used: 2, but model.experts is 1"},
        {{"model.family=gpt9"}, "model.family: unknown family 'gpt9'"},
        {{"model.context=8"}, "model.context: 8 is less than data.seq_len (256)"},
        {{"model.experts_used=1"}, "router.renormalise: with model.experts_used = 1"},
        {{"model.experts_used=1", "router.renormalise=false", "router.gate_after=true"},
         "router.gate_after: with model.experts_used = 1"},
        {{"router.used_from=3"}, "router.used_from: 3 is more than model.experts_used"},
        {{"router.used_from=1", "router.select=grouped", "router.groups=2"},
         "router.used_from: with router.select = grouped"},
        {{"router.groups=2"},
         "router.groups: without meaning for router.select = topk"},
        {{"router.select=grouped", "router.groups=3"},
         "router.groups: 3 does not divide model.experts (8)"},
        {{"router.select=grouped"}, "router.groups: 0 does not divide"},
        {{"router.select=grouped", "router.groups=4"},
         "router.groups: 4 does not divide model.experts_used (2)"},
        {{"router.select=group_limited", "router.groups=4", "router.groups_used=5"},
         "router.groups_used: 5, expected 1 to router.groups (4)"},
        {{"router.select=group_limited", "router.groups=8", "router.groups_used=1"},
         "model.experts_used: 2, but router.groups_used groups have only 1"},
        {{"balance.bias_rate=1", "balance.bip_rounds=1"},
         "balance.bip_rounds: not together with balance.bias_rate"},
        {{"data.chat=morse"}, "data.chat: unknown format 'morse'"},
        {{"data.source.1.weight=1"}, "data.source.1.path: is missing"},
        {{"data.source.1.path=b", "data.source.1.weight=1"},
         "data.source: give all a weight, or none"},
        {{"data.tokenizer="}, "data.tokenizer: is missing, and 'a' is text"},
        {{"data.tokenizer=", "data.source.0.path=a.npy"},
         "model.vocab: without data.tokenizer it must be given"},
        {{"train.batch=1000000", "data.seq_len=10000"},
         "train.batch: 1000000 sequences of 10000 tokens are too many"},
        {{"optim.final_lr=1"}, "optim.final_lr: 1 is more than optim.lr (0.001)"},
        {{"optim.warmup=1001"}, "optim.warmup: 1001, but train.steps is 1000"},
        {{"optim.schedule=wsd", "optim.decay_steps=951"},
         "optim.decay_steps: 951, but after the warm-up there are 950"},
        {{"optim.kind=sgd", "optim.nesterov=true"},
         "optim.nesterov: needs optim.momentum"},
        {{"optim.group.0.frozen=true"}, "optim.group.0.pattern: is missing"},
        {{"output.type=Q9"}, "output.type: unknown type 'Q9'"},
        {{"output.type=Q4_K"}, "output.type: Q4_K needs multiples of 256, but"},
        {{"output.dir="}, "output.dir: is missing"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t n = 0;
        while (cases[i].settings[n])
            n++;
        jt_config c;
        jt_err err;
        assert_int_equal(parse(&c, cases[i].settings, n, &err), JT_E_ARG);
        if (!strstr(err.msg, cases[i].message))
            fail_msg("%s: %s", cases[i].message, err.msg);
    }
}

/* What contradicts a fresh model is fine where it has no meaning. */
static void without_meaning(void **state)
{
    (void)state;
    static const struct {
        const char *settings[4];
    } cases[] = {
        {{"model.init=m.gguf", "model.heads=3", "data.tokenizer="}},
        {{"model.experts=0", "model.ffn_width=64", "router.used_from=9"}},
        {{"model.experts_used=1", "router.score=random"}},
        {{"model.experts_used=1", "router.gating=sigmoid"}},
        {{"data.tokenizer=", "data.source.0.path=a.bin", "model.vocab=64"}},
        {{"router.select=group_limited", "router.groups=4", "router.groups_used=2"}},
        {{"optim.kind=muon", "optim.nesterov=true"}},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t n = 0;
        while (cases[i].settings[n])
            n++;
        jt_config c;
        jt_err err;
        if (parse(&c, cases[i].settings, n, &err) != JT_OK)
            fail_msg("%s: %s", cases[i].settings[0], err.msg);
        jt_config_free(&c);
    }
}

static void lines(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[data]\n\ntokeniser = 1",
         "line 3: unknown key 'data.tokeniser' (did you mean 'data.tokenizer'?)"},
        {"\n[trian]\n", "line 2: unknown key 'trian' (did you mean 'train'?)"},
        {"train = 1", "line 1: train: expected a table: [train]"},
        {"[train]\nsteps = 'x'",
         "line 2: train.steps: expected a whole number, 1 to 1000000000, not 'x'"},
        {"[data]\nsource = 'a.txt'",
         "line 2: data.source: expected a list of tables: [[data.source]]"},
        {"[data]\nsource = ['a']",
         "line 2: data.source: expected a list of tables: [[data.source]]"},
        {"[[data.source]]\n[[data.source]]\npth = 'x'",
         "line 3: unknown key 'data.source.1.pth' (did you mean "
         "'data.source.0.path'?)"},
        {"['data.source']\n",
         "line 1: unknown key 'data.source' (see 'junto train --help-keys')"},
        {"[train]\nsteps = 1\nsteps = 2",
         "line 3: 'steps' is already defined on line 2"},
        {"", "data.source: nothing to learn from: add [[data.source]] with a path"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        jt_config c;
        jt_err err = {0};
        char expected[500];
        const char *path = write_file("bad.toml", cases[i].text);
        assert_int_not_equal(jt_config_read(&c, path, NULL, 0, &err), JT_OK);
        snprintf(expected, sizeof expected, "'%s': %s", path, cases[i].message);
        assert_string_equal(err.msg, expected);
    }
}

static void many_sources(void **state)
{
    (void)state;
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    fputs("[data]\ntokenizer = 't'\n", out);
    for (int i = 0; i < 1000; i++)
        fprintf(out, "[[data.source]]\npath = '%d'\n", i);
    fclose(out);
    jt_config c;
    jt_err err = {0};
    const char *path = write_file("many.toml", text);
    assert_int_equal(jt_config_read(&c, path, NULL, 0, &err), JT_OK);
    assert_int_equal(c.data.n_sources, 1000);
    assert_string_equal(strrchr(c.data.source[777].path, '/'), "/777");
    jt_config_free(&c);
    const char *one_more = "data.source.1000.path=x";
    assert_int_equal(jt_config_read(&c, path, &one_more, 1, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "data.source: at most 1000"));
    free(text);
}

static void without_memory(void **state)
{
    (void)state;
    const char *path = write_file("run.toml", least);
    const char *const settings[] = {"data.source.1.path=x", "optim.group.0.pattern=*"};
    jt_status status = JT_E_MEMORY;
    for (long n = 0; status != JT_OK; n++) {
        assert_true(n < 1000);
        jt_config c = {0};
        jt_err err = {0};
        jt_fault_after(n);
        status = jt_config_read(&c, path, settings, 2, &err);
        jt_fault_after(-1);
        assert_true(status == JT_OK || status == JT_E_MEMORY);
        assert_int_equal(c.memory != NULL, status == JT_OK);
        jt_config_free(&c);
    }
}

/* The printed keys are a configuration that says nothing but defaults. */
static void printed_keys(void **state)
{
    (void)state;
    char *keys = jt_train_keys(false);
    const char *path = write_file("keys.toml", keys);
    const char *const settings[] = {"data.tokenizer=t", "data.source.0.path=a",
                                    "output.dir=out"};
    jt_config printed, plain;
    jt_err err = {0};
    if (jt_config_read(&printed, path, settings, 3, &err) != JT_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(parse(&plain, NULL, 0, &err), JT_OK);
    char *a = jt_config_json(&printed), *b = jt_config_json(&plain);
    assert_string_equal(a, b);
    free(a);
    free(b);
    free(keys);
    jt_config_free(&printed);
    jt_config_free(&plain);
}

static void trouble(void **state)
{
    (void)state;
    jt_config c;
    jt_err err = {0};
    assert_int_equal(jt_config_read(&c, "/no/such.toml", NULL, 0, &err), JT_E_IO);
    assert_non_null(strstr(err.msg, "/no/such.toml"));
    assert_int_equal(jt_config_read(&c, scratch_dir.dir, NULL, 0, &err), JT_E_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),       cmocka_unit_test(paths),
        cmocka_unit_test(json_file),      cmocka_unit_test(round_trip),
        cmocka_unit_test(settings_win),   cmocka_unit_test(refused_settings),
        cmocka_unit_test(contradictions), cmocka_unit_test(without_meaning),
        cmocka_unit_test(lines),          cmocka_unit_test(many_sources),
        cmocka_unit_test(without_memory), cmocka_unit_test(printed_keys),
        cmocka_unit_test(trouble),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
