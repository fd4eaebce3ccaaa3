#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "verbs.h"

struct tokenize_args {
    cli_common common;
    const char *model, *prompt, *file, *decode;
    int special, bos;
    bool pieces, json;
};

static const cli_option operands[] = {CLI_MODEL_OPERAND(struct tokenize_args), {0}};

static const cli_option options[] = {
    {.flags = "-p --prompt",
     .kind = CLI_STRING,
     .value = "TEXT",
     .offset = offsetof(struct tokenize_args, prompt),
     .help = "text to turn into tokens (default: standard input)"},
    {.flags = "-f --file",
     .kind = CLI_PATH,
     .value = "FILE",
     .offset = offsetof(struct tokenize_args, file),
     .help = "read the text from a file; - is standard input"},
    {.flags = "-d --decode --ids",
     .kind = CLI_STRING,
     .value = "IDS",
     .offset = offsetof(struct tokenize_args, decode),
     .help = "the other way: print the bytes of the tokens 1,2,3; - reads the ids from "
             "standard input"},
    {.flags = "--special",
     .kind = CLI_SWITCH,
     .initial = "1",
     .offset = offsetof(struct tokenize_args, special),
     .help = "names of special tokens in the text stand for those tokens (default), or "
             "are plain text; with --decode: they are printed or left out"},
    {.flags = "--bos",
     .kind = CLI_SWITCH,
     .initial = "1",
     .offset = offsetof(struct tokenize_args, bos),
     .help = "put the begin and end tokens around the text if the vocabulary asks for "
             "it (default); with --decode: take them off"},
    {.flags = "--pieces",
     .kind = CLI_FLAG,
     .offset = offsetof(struct tokenize_args, pieces),
     .help = "a token per line: its id, a tab, its text with escapes"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct tokenize_args, json),
     .help = "one JSON object: ids, pieces, text"},
    {0}};

static void print_escaped(jt_str piece)
{
    for (size_t i = 0; i < piece.len; i++) {
        unsigned char c = (unsigned char)piece.data[i];
        if (c == '\n')
            fputs("\\n", stdout);
        else if (c == '\t')
            fputs("\\t", stdout);
        else if (c == '\\')
            fputs("\\\\", stdout);
        else if (c < 0x20 || c == 0x7f)
            printf("\\x%02x", c);
        else
            putchar(c);
    }
}

static int print_json(cli_context *cli, const jt_tokenizer *tokenizer,
                      const jt_tokens *tokens, const char *text, size_t len)
{
    json_t *ids = json_array(), *pieces = json_array();
    for (size_t i = 0; i < tokens->count; i++) {
        jt_str piece = jt_token_piece(tokenizer, tokens->ids[i]);
        json_array_append_new(ids, json_integer(tokens->ids[i]));
        json_array_append_new(pieces, cli_json_text(piece.data, piece.len));
    }
    return cli_print_json(cli, json_pack("{s:o, s:o, s:o}", "ids", ids, "pieces",
                                         pieces, "text", cli_json_text(text, len)));
}

static int print_tokens(cli_context *cli, const struct tokenize_args *args,
                        const jt_tokenizer *tokenizer, const jt_tokens *tokens,
                        const char *text, size_t len)
{
    if (args->json)
        return print_json(cli, tokenizer, tokens, text, len);
    for (size_t i = 0; i < tokens->count; i++) {
        if (args->pieces) {
            printf("%d\t", (int)tokens->ids[i]);
            print_escaped(jt_token_piece(tokenizer, tokens->ids[i]));
            putchar('\n');
        } else {
            printf("%s%d", i ? "," : "", (int)tokens->ids[i]);
        }
    }
    if (!args->pieces)
        putchar('\n');
    return CLI_DONE;
}

static int encode(cli_context *cli, const struct tokenize_args *args,
                  const jt_tokenizer *tokenizer)
{
    jt_err err = {0};
    char *read = NULL;
    const char *text = args->prompt;
    size_t len = text ? strlen(text) : 0;
    if (!text) {
        if (cli_read_text(&read, &len, args->file ? args->file : "-", &err) != JT_OK)
            return cli_fail(cli, &err);
        text = read;
    }
    unsigned flags = (args->bos ? JT_ENCODE_ADD_SPECIAL : 0u) |
                     (args->special ? JT_ENCODE_PARSE_SPECIAL : 0u);
    jt_tokens tokens = {0};
    int code = CLI_FAILED;
    if (jt_encode(tokenizer, text, len, flags, &tokens, &err) == JT_OK)
        code = print_tokens(cli, args, tokenizer, &tokens, text, len);
    else
        cli_fail(cli, &err);
    free(tokens.ids);
    free(read);
    return code;
}

/* The part of `ids` between the tokens that encoding puts around a text. */
static jt_status strip_added(const jt_tokenizer *tokenizer, const cli_ints *ids,
                             size_t *first, size_t *count, jt_err *err)
{
    jt_tokens added = {0};
    JT_TRY(jt_encode(tokenizer, "", 0, JT_ENCODE_ADD_SPECIAL, &added, err));
    int32_t bos = jt_token_bos(tokenizer), eos = jt_token_eos(tokenizer);
    *first = 0;
    *count = ids->count;
    if (added.count && added.ids[0] == bos && ids->items[0] == bos) {
        *first = 1;
        --*count;
    }
    if (added.count && added.ids[added.count - 1] == eos && *count &&
        ids->items[ids->count - 1] == eos)
        --*count;
    free(added.ids);
    return JT_OK;
}

static jt_status check_ids(const jt_tokenizer *tokenizer, const cli_ints *ids,
                           jt_err *err)
{
    size_t n_vocab = jt_vocab_size(tokenizer);
    for (size_t i = 0; i < ids->count; i++) {
        if ((size_t)ids->items[i] >= n_vocab)
            return jt_fail(err, JT_E_ARG,
                           "token %d is outside the vocabulary (0 to %zu)",
                           (int)ids->items[i], n_vocab - 1);
    }
    return JT_OK;
}

static jt_status decode_ids(const struct tokenize_args *args,
                            const jt_tokenizer *tokenizer, const cli_ints *ids,
                            char **text, size_t *len, jt_err *err)
{
    size_t first = 0, count = ids->count;
    JT_TRY(check_ids(tokenizer, ids, err));
    if (args->bos && count)
        JT_TRY(strip_added(tokenizer, ids, &first, &count, err));
    const int32_t *from = count ? ids->items + first : NULL;
    return jt_decode(tokenizer, from, count, args->special, text, len, err);
}

static int print_text(cli_context *cli, bool json, const char *text, size_t len)
{
    if (json)
        return cli_print_json(cli,
                              json_pack("{s:o}", "text", cli_json_text(text, len)));
    jt_err err = {0};
    return cli_write(text, len, &err) == JT_OK ? CLI_DONE : cli_fail(cli, &err);
}

/* Ids from standard input; none at all are the tokens of an empty text. */
static jt_status read_ids(cli_ints *ids, jt_err *err)
{
    char *text;
    size_t len;
    JT_TRY(cli_read_text(&text, &len, "-", err));
    jt_status status = JT_OK;
    if (text[strspn(text, " \t\r\n")])
        status = cli_parse_ints(ids, text, 0, INT32_MAX, "standard input", err);
    free(text);
    return status;
}

static int decode(cli_context *cli, const struct tokenize_args *args,
                  const jt_tokenizer *tokenizer)
{
    jt_err err = {0};
    cli_ints ids = {0};
    char *text = NULL;
    size_t len;
    bool from_stdin = !strcmp(args->decode, "-");
    jt_status status =
        from_stdin ? read_ids(&ids, &err)
                   : cli_parse_ints(&ids, args->decode, 0, INT32_MAX, "--decode", &err);
    if (status == JT_OK)
        status = decode_ids(args, tokenizer, &ids, &text, &len, &err);
    if (status == JT_E_ARG && from_stdin)
        err.code = JT_E_FORMAT; /* wrong input, not wrong usage */
    int code =
        status == JT_OK ? print_text(cli, args->json, text, len) : cli_fail(cli, &err);
    free(text);
    free(ids.items);
    return code;
}

/* Only the vocabulary is read: the file may have nothing else. */
static jt_status open_tokenizer(jt_tokenizer **out, const char *path, jt_err *err)
{
    jt_gguf *file;
    JT_TRY(jt_model_open_file(&file, path, err));
    jt_status status;
    if (jt_gguf_kv_find(file, "tokenizer.ggml.model"))
        status = jt_tokenizer_new(out, file, err);
    else
        status = jt_fail(err, JT_E_UNSUPPORTED, "there is no tokenizer in it");
    jt_gguf_close(file);
    return status == JT_OK ? JT_OK : jt_fail_within(err, status, "%s", path);
}

static int run(cli_context *cli, const void *raw)
{
    const struct tokenize_args *args = raw;
    if (!!args->prompt + !!args->file + !!args->decode > 1)
        return cli_usage(cli, "give only one of --prompt, --file and --decode");
    jt_err err = {0};
    jt_tokenizer *tokenizer = NULL;
    if (open_tokenizer(&tokenizer, args->model, &err) != JT_OK)
        return cli_fail(cli, &err);
    int code =
        args->decode ? decode(cli, args, tokenizer) : encode(cli, args, tokenizer);
    jt_tokenizer_free(tokenizer);
    return code;
}

static const cli_group groups[] = {
    {"Flags", options, 0}, {NULL, cli_common_options, 0}, {0}};

static const char *const examples[] = {
    "junto tokenize model.gguf -p 'Hello, world'",
    "the ids, separated by commas",
    "junto tokenize model.gguf -f text.txt | junto tokenize model.gguf --decode -",
    "to tokens and back: the same bytes",
    "junto tokenize model.gguf --pieces -p 'Hello, world'",
    "see where the text is cut",
    NULL};

const cli_verb cli_verb_tokenize = {
    .name = "tokenize",
    .section = "Look",
    .summary = "turn text into token ids, or ids into text",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct tokenize_args),
    .run = run,
};
