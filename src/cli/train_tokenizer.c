#include "common.h"
#include "verbs.h"

struct train_tokenizer_args {
    cli_common common;
    cli_list files, specials;
    const char *out, *pre;
    int size, min_count;
    bool json;
};

static const cli_option operands[] = {
    {.flags = "FILE...",
     .kind = CLI_LIST,
     .required = true,
     .offset = offsetof(struct train_tokenizer_args, files),
     .help = "text files, or JSON lines (.jsonl) as 'junto train' reads them"},
    {0}};

static const cli_option options[] = {
    {.flags = "-o --output",
     .kind = CLI_PATH,
     .value = "OUT.gguf",
     .required = true,
     .offset = offsetof(struct train_tokenizer_args, out),
     .help = "the vocabulary to write; it appears whole or not at all"},
    {.flags = "--vocab-size",
     .kind = CLI_INT,
     .value = "N",
     .initial = "4096",
     .offset = offsetof(struct train_tokenizer_args, size),
     .min = 256,
     .max = 1 << 24,
     .help = "tokens, with the 256 bytes and the special ones"},
    {.flags = "--pre",
     .kind = CLI_STRING,
     .value = "NAME",
     .initial = "gpt-2",
     .offset = offsetof(struct train_tokenizer_args, pre),
     .help = "how text is cut into words, named as in GGUF files: gpt-2, qwen2, "
             "llama-bpe and others"},
    {.flags = "--special",
     .kind = CLI_LIST,
     .value = "TOKEN",
     .offset = offsetof(struct train_tokenizer_args, specials),
     .help = "a special token; may be given several times. The first one begins and "
             "ends documents (default: <|endoftext|>, <|im_start|>, <|im_end|>)"},
    {.flags = "--min-count",
     .kind = CLI_INT,
     .value = "N",
     .initial = "2",
     .offset = offsetof(struct train_tokenizer_args, min_count),
     .min = 1,
     .max = 1 << 30,
     .help = "do not merge pairs that are seen less often"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct train_tokenizer_args, json),
     .help =
         "print one JSON object: tokens, merges, bytes, pieces, words, text_tokens"},
    {0}};

static int report(cli_context *cli, const struct train_tokenizer_args *args,
                  const jt_vocabulary_report *r)
{
    if (r->tokens < (size_t)args->size)
        cli_note(cli, "only %zu tokens: no other pair is seen %d times", r->tokens,
                 args->min_count);
    double ratio = r->text_tokens ? (double)r->bytes / (double)r->text_tokens : 0;
    cli_note(cli,
             "wrote %s: %zu tokens; the text has %s words and %.2f bytes per token",
             args->out, r->tokens, cli_show_count((double)r->words).text, ratio);
    if (!args->json)
        return CLI_DONE;
    json_int_t tokens = (json_int_t)r->tokens, merges = (json_int_t)r->merges;
    return cli_print_json(
        cli, json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "tokens", tokens, "merges",
                       merges, "bytes", (json_int_t)r->bytes, "pieces",
                       (json_int_t)r->pieces, "words", (json_int_t)r->words,
                       "text_tokens", (json_int_t)r->text_tokens));
}

static int run(cli_context *cli, const void *raw)
{
    const struct train_tokenizer_args *args = raw;
    cli_interrupt_catch();
    jt_vocabulary_options train = {
        .size = (size_t)args->size,
        .pre = args->pre,
        .min_count = (uint64_t)args->min_count,
        .specials = args->specials.items,
        .n_specials = args->specials.count,
        .progress = cli_progress(cli),
    };
    jt_err err = {0};
    jt_vocabulary_report made;
    if (jt_vocabulary_train(args->files.items, args->files.count, args->out, &train,
                            &made, &err) != JT_OK)
        return cli_fail(cli, &err);
    return report(cli, args, &made);
}

static const cli_group groups[] = {
    {"Flags", options, 0}, {NULL, cli_common_options, 0}, {0}};

static const char *const examples[] = {
    "junto train-tokenizer texts/*.txt -o vocab.gguf --vocab-size 8192",
    "learn 8192 tokens from some texts",
    "junto tokenize vocab.gguf --pieces -p 'Hello, world'",
    "see how the new vocabulary cuts", NULL};

const cli_verb cli_verb_train_tokenizer = {
    .name = "train-tokenizer",
    .section = "Make",
    .summary = "learn a vocabulary from text",
    .details =
        "Byte-level BPE (Sennrich et al. 2016): beginning with single bytes, the "
        "pair of tokens that is seen most often becomes a new token, again and "
        "again. The file has the keys of a tokenizer and no model: the data.tokenizer "
        "of 'junto train'. Special tokens that stand in the texts divide documents and "
        "are not learnt from.",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct train_tokenizer_args),
    .run = run,
};
