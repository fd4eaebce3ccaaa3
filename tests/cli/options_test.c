/* The parser of flags, on a verb made for it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "options.h"

struct args {
    cli_common common;
    const char *model, *out, *name, *path, *mode;
    bool flag;
    int on, number;
    float part;
    int64_t seed;
    uint64_t size;
    cli_list list;
    cli_ints ints;
    struct {
        int inner;
    } nested;
};

static const cli_option operands[] = {
    {.flags = "MODEL",
     .kind = CLI_PATH,
     .required = true,
     .offset = offsetof(struct args, model)},
    {.flags = "OUT", .kind = CLI_PATH, .offset = offsetof(struct args, out)},
    {0}};

static const cli_option options[] = {
    {.flags = "-f --flag", .kind = CLI_FLAG, .offset = offsetof(struct args, flag)},
    {.flags = "--on",
     .kind = CLI_SWITCH,
     .initial = "-1",
     .offset = offsetof(struct args, on)},
    {.flags = "-n --number --count -num",
     .kind = CLI_INT,
     .value = "N",
     .initial = "7",
     .min = -1,
     .max = 100,
     .offset = offsetof(struct args, number)},
    {.flags = "--part",
     .kind = CLI_FLOAT,
     .value = "P",
     .max = 1,
     .offset = offsetof(struct args, part)},
    {.flags = "-s --seed",
     .kind = CLI_SEED,
     .value = "N",
     .initial = "-1",
     .offset = offsetof(struct args, seed)},
    {.flags = "--size",
     .kind = CLI_SIZE,
     .value = "SIZE",
     .offset = offsetof(struct args, size),
     .min = 1},
    {.flags = "--name",
     .kind = CLI_STRING,
     .value = "TEXT",
     .offset = offsetof(struct args, name)},
    {.flags = "--mode",
     .kind = CLI_CHOICE,
     .value = "slow|fast",
     .initial = "slow",
     .offset = offsetof(struct args, mode)},
    {.flags = "-l --list",
     .kind = CLI_LIST,
     .value = "TEXT",
     .offset = offsetof(struct args, list)},
    {.flags = "--ints",
     .kind = CLI_INTS,
     .value = "N,...",
     .min = 0,
     .max = 1000,
     .offset = offsetof(struct args, ints)},
    {0}};

static const cli_option nested_options[] = {
    {.flags = "--inner", .kind = CLI_INT, .value = "N", .offset = 0}, {0}};

static const cli_group groups[] = {
    {"Flags", options, 0},
    {NULL, nested_options, offsetof(struct args, nested)},
    {NULL, cli_common_options, 0},
    {0}};

static const cli_verb verb = {.name = "test",
                              .operands = operands,
                              .groups = groups,
                              .args_size = sizeof(struct args)};

enum { MAX_WORDS = 16 };

/* Parse words that end with NULL. */
static jt_status parse(struct args *args, jt_err *err, char *const *words)
{
    int count = 0;
    while (words[count])
        count++;
    *err = (jt_err){0};
    return cli_parse(&verb, count, words, args, err);
}

#define WORDS(...)        \
    (char *[MAX_WORDS])   \
    {                     \
        __VA_ARGS__, NULL \
    }

static void test_defaults(void **state)
{
    (void)state;
    struct args args;
    jt_err err;
    assert_int_equal(parse(&args, &err, WORDS("m.gguf")), JT_OK);
    assert_string_equal(args.model, "m.gguf");
    assert_null(args.out);
    assert_null(args.name);
    assert_false(args.flag);
    assert_int_equal(args.on, -1);
    assert_int_equal(args.number, 7);
    assert_int_equal(args.seed, -1);
    assert_string_equal(args.mode, "slow");
    assert_string_equal(args.common.color, "auto");
    assert_int_equal(args.list.count, 0);
    cli_args_free(&verb, &args);
}

static void test_spellings(void **state)
{
    (void)state;
    static char *const spellings[][3] = {
        {"-n", "42"},      {"-n42"},       {"--number", "42"}, {"--number=42"},
        {"--count", "42"}, {"--count=42"}, {"-num", "42"},
    };
    for (size_t i = 0; i < sizeof spellings / sizeof spellings[0]; i++) {
        struct args args;
        jt_err err;
        char *words[] = {"m", spellings[i][0], spellings[i][1], NULL};
        assert_int_equal(parse(&args, &err, words), JT_OK);
        assert_int_equal(args.number, 42);
        cli_args_free(&verb, &args);
    }
}

static void test_all_kinds(void **state)
{
    (void)state;
    struct args args;
    jt_err err;
    char *words[] = {"-f",     "--no-on", "m",        "--part",  "0.25",
                     "--size", "1.5K",    "--seed=5", "--name",  "--flag",
                     "--mode", "fast",    "-l",       "a",       "--list",
                     "",       "--ints",  "1,2, 30",  "--inner", "-9",
                     "-n",     "-1",      "--",       "-out-",   NULL};
    assert_int_equal(parse(&args, &err, words), JT_OK);
    assert_true(args.flag);
    assert_int_equal(args.on, 0);
    assert_true(args.part == 0.25f);
    assert_int_equal(args.size, 1536);
    assert_int_equal(args.seed, 5);
    assert_string_equal(args.name, "--flag"); /* a value may look like a flag */
    assert_string_equal(args.mode, "fast");
    assert_int_equal(args.list.count, 2);
    assert_string_equal(args.list.items[0], "a");
    assert_string_equal(args.list.items[1], "");
    assert_int_equal(args.ints.count, 3);
    assert_int_equal(args.ints.items[2], 30);
    assert_int_equal(args.nested.inner, -9);
    assert_int_equal(args.number, -1);
    assert_string_equal(args.out, "-out-");
    cli_args_free(&verb, &args);
}

static void test_last_one_counts(void **state)
{
    (void)state;
    struct args args;
    jt_err err;
    assert_int_equal(parse(&args, &err,
                           WORDS("m", "-n1", "-n2", "--on", "--no-on", "--ints", "1,2",
                                 "--ints", "3")),
                     JT_OK);
    assert_int_equal(args.number, 2);
    assert_int_equal(args.on, 0);
    assert_int_equal(args.ints.count, 1);
    cli_args_free(&verb, &args);
}

static void test_help_wins(void **state)
{
    (void)state;
    struct args args;
    jt_err err;
    assert_int_equal(parse(&args, &err, WORDS("--help")), JT_OK); /* no MODEL */
    assert_true(args.common.help);
    cli_args_free(&verb, &args);
}

static void test_mistakes(void **state)
{
    (void)state;
    static const struct {
        char *words[4];
        const char *message;
    } cases[] = {
        {{NULL}, "MODEL is missing (see 'junto help test')"},
        {{"m", "o", "x"}, "unexpected argument 'x'"},
        {{"m", "-n"}, "-n needs a value (N)"},
        {{"m", "-n", ""}, "-n: '' is not a whole number"},
        {{"m", "-n", " 1"}, "-n: ' 1' is not a whole number"},
        {{"m", "-n", "1x"}, "-n: '1x' is not a whole number"},
        {{"m", "-nx"}, "-n: 'x' is not a whole number"},
        {{"m", "--count=101"}, "--count: '101' is out of range (-1 to 100)"},
        {{"m", "-n", "99999999999999999999"},
         "-n: '99999999999999999999' is out of range (-1 to 100)"},
        {{"m", "--inner", "3000000000"},
         "--inner: '3000000000' is out of range (-2147483648 to 2147483647)"},
        {{"m", "--part", "1.5"}, "--part: '1.5' is out of range (0 to 1)"},
        {{"m", "--part", "nan"}, "--part: 'nan' is not a number"},
        {{"m", "--part", "inf"}, "--part: 'inf' is not a number"},
        {{"m", "--size", "12Q"}, "--size: '12Q' is not a size (as 512M or 1.5G)"},
        {{"m", "--size", "-1"}, "--size: '-1' is not a size (as 512M or 1.5G)"},
        {{"m", "--size", "0"}, "--size: '0' is out of range (1 to 1024T)"},
        {{"m", "--mode", "fas"}, "--mode: 'fas' is not one of slow|fast"},
        {{"m", "--ints", "1,,2"}, "--ints: '' is not a whole number"},
        {{"m", "--ints", "1,2x"}, "--ints: '2x' is not a whole number"},
        {{"m", "--ints", "1001"}, "--ints: '1001' is out of range (0 to 1000)"},
        {{"m", "--ints", "0000000000000000000000000000000000000000"},
         "--ints: '00000000000000000000...' is not a whole number"},
        {{"m", "--ints", " "}, "--ints: ' ' has no numbers"},
        {{"m", "--flag=1"}, "--flag takes no value"},
        {{"m", "--numbr", "1"}, "unknown flag '--numbr' (did you mean '--number'?)"},
        {{"m", "--zzzzz"}, "unknown flag '--zzzzz' (see 'junto help test')"},
        {{"m", "--no-flag"}, "unknown flag '--no-flag' (did you mean '--flag'?)"},
        {{"m", "-x"}, "unknown flag '-x' (see 'junto help test')"},
        {{"m", "-fx"}, "unknown flag '-fx' (see 'junto help test')"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct args args;
        jt_err err;
        assert_int_equal(parse(&args, &err, cases[i].words), JT_E_ARG);
        assert_string_equal(err.msg, cases[i].message);
        cli_args_free(&verb, &args);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),  cmocka_unit_test(test_spellings),
        cmocka_unit_test(test_all_kinds), cmocka_unit_test(test_last_one_counts),
        cmocka_unit_test(test_help_wins), cmocka_unit_test(test_mistakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
