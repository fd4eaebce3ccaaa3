/* Training data: which documents the files give, what is learnt of them, and which
 * files are refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "../text/vocab_file.h"
#include "base/memory.h"
#include "data_files.h"

static jt_tokens encode(const jt_tokenizer *tok, const char *text)
{
    jt_tokens ids = {0};
    assert_int_equal(
        jt_encode(tok, text, strlen(text), JT_ENCODE_PARSE_SPECIAL, &ids, NULL), JT_OK);
    return ids;
}

/* The only document of the source has the tokens of these texts, joined, and those of
 * every second one (the second, the fourth ...) are learnt. NULL ends the list. */
static void check_parts(const jt_data_source *source, const jt_tokenizer *tok,
                        const jt_chat_format *chat, const char *const *parts)
{
    jt_batch batch = data_epoch(source, tok, chat);
    size_t at = 0;
    for (size_t p = 0; parts[p]; p++) {
        jt_tokens ids = encode(tok, parts[p]);
        for (size_t i = 0; i < ids.count; i++, at++) {
            assert_true(at < batch.seq_len);
            assert_int_equal(batch.tokens[at], ids.ids[i]);
            assert_int_equal(batch.first[at], 0);
            assert_int_equal(batch.positions[at], at);
            if (at > 0)
                assert_int_equal(batch.targets[at - 1], p % 2 ? ids.ids[i] : -1);
        }
        free(ids.ids);
    }
    assert_int_equal(at, batch.seq_len);
    assert_int_equal(batch.targets[at - 1], -1);
    jt_batch_free(&batch);
}

#define CHECK_PARTS(source, tok, chat, ...) \
    check_parts(source, tok, chat, (const char *const[]){__VA_ARGS__, NULL})

/* Documents of the source, in any order, as their texts; "" ends the list. */
static void check_documents(const jt_data_source *source, const char *const *texts)
{
    jt_batch batch = data_epoch(source, data_tok, NULL);
    size_t n = 0, found = 0;
    while (texts[n][0])
        n++;
    for (size_t at = 0, end; at < batch.seq_len; at = end) {
        for (end = at; end < batch.seq_len && (size_t)batch.first[end] == at;)
            end++;
        char *text;
        size_t len, i = 0;
        assert_int_equal(batch.tokens[end - 1], jt_token_eos(data_tok));
        assert_int_equal(
            jt_decode(data_tok, batch.tokens + at, end - at, false, &text, &len, NULL),
            JT_OK);
        while (i < n && strcmp(text, texts[i]) != 0)
            i++;
        if (i == n)
            fail_msg("no such document: '%s'", text);
        free(text);
        found++;
    }
    assert_int_equal(found, n);
    jt_batch_free(&batch);
}

#define CHECK_DOCUMENTS(source, ...) \
    check_documents(source, (const char *const[]){__VA_ARGS__, ""})

static void text_documents(void **state)
{
    (void)state;
    const char *path = data_text_file("a.txt", "one\ntwo\n\n\n---\nthree\n");
    CHECK_DOCUMENTS(&(jt_data_source){.path = path}, "one\ntwo\n\n\n---\nthree");
    CHECK_DOCUMENTS((&(jt_data_source){.path = path, .separator = ""}), "one\ntwo",
                    "---\nthree");
    CHECK_DOCUMENTS((&(jt_data_source){.path = path, .separator = "---"}),
                    "one\ntwo\n\n", "three");
    CHECK_DOCUMENTS((&(jt_data_source){.path = path, .separator = "--"}),
                    "one\ntwo\n\n\n---\nthree");
    path = data_text_file("dos.txt", "\xef\xbb\xbfone\r\n%%\r\n \t\r\n%%\r\ntwo\r\n%%");
    CHECK_DOCUMENTS((&(jt_data_source){.path = path, .separator = "%%"}), "one", "two");
    /* A special token that is written in a text is text. */
    path = data_text_file("special.txt", "a<|im_end|>b");
    jt_batch batch = data_epoch(&(jt_data_source){.path = path}, data_tok, NULL);
    assert_true(batch.seq_len > 5);
    for (size_t i = 0; i + 2 < batch.seq_len; i++)
        assert_false(jt_token_is_special(data_tok, batch.targets[i]));
    jt_batch_free(&batch);
}

/* Longer than the pieces in which files are encoded, with and without line ends. */
static void long_text(void **state)
{
    (void)state;
    enum { BYTES = 5 << 19 };
    char *text = malloc(BYTES + 1);
    for (size_t width = 0; width < 1000; width += 997) {
        for (size_t i = 0; i < BYTES; i++)
            text[i] = width && i % width == width - 1 ? '\n' : "t\xc3\xa9"[i % 3];
        text[BYTES] = '\0';
        if (width == 0)
            memcpy(text + BYTES - 1, "t", 1);
        const char *path = data_bytes_file("long.txt", text, BYTES);
        jt_batch batch = data_epoch(&(jt_data_source){.path = path}, data_tok, NULL);
        char *back;
        size_t len;
        assert_int_equal(
            jt_decode(data_tok, batch.tokens, batch.seq_len, false, &back, &len, NULL),
            JT_OK);
        assert_int_equal(len, BYTES);
        assert_memory_equal(back, text, BYTES);
        free(back);
        jt_batch_free(&batch);
    }
    free(text);
}

static void json_documents(void **state)
{
    (void)state;
    jt_data_source source = {
        .path = data_json_file("a.jsonl", "\xef\xbb\xbf"
                                          "{'text': 'one\\ntwo', 'id': 7}\r\n"
                                          "\n  \n{'text': ''}\n"
                                          "{'more': [1], 'text': '\\u00e9'}")};
    CHECK_DOCUMENTS(&source, "one\ntwo", "\xc3\xa9");
    jt_data *data = data_open(&source, 1, data_tok, 0, (jt_data_options){.seq_len = 8});
    size_t train, held_out, skipped;
    jt_data_documents(data, 0, &train, &held_out, &skipped);
    assert_int_equal(train, 2);
    assert_int_equal(held_out, 0);
    assert_int_equal(skipped, 1);
    assert_string_equal(jt_data_domain(data, 0), "a.jsonl");
    jt_data_free(data);
}

static void completions(void **state)
{
    (void)state;
    jt_data_source source = {0};
    source.path =
        data_json_file("p.jsonl", "{'prompt': 'say so:', 'completion': ' and on'}");
    CHECK_PARTS(&source, data_tok, NULL, "say so:", " and on<|im_end|>");
    /* Where the border is inside a token, that token is learnt. */
    source.path = data_json_file("p.jsonl", "{'prompt': 'a ', 'completion': 'the'}");
    CHECK_PARTS(&source, data_tok, NULL, "a", " the<|im_end|>");
    source.path = data_json_file("p.jsonl", "{'prompt': '', 'completion': 'so'}");
    CHECK_PARTS(&source, data_tok, NULL, "", "so<|im_end|>");
    source.path = data_json_file("p.jsonl", "{'prompt': 'so', 'completion': ''}");
    CHECK_PARTS(&source, data_tok, NULL, "so", "<|im_end|>");
}

#define SYSTEM(text) "{'role': 'system', 'content': '" text "'}"
#define USER(text)   "{'role': 'user', 'content': '" text "'}"
#define REPLY(text)  "{'role': 'assistant', 'content': '" text "'}"
#define CHAT(turns)  "{'messages': [" turns "]}\n"

static const char two_replies[] =
    CHAT(SYSTEM("be") "," USER("in") "," REPLY("on") "," USER("at") "," REPLY("re"));

static void chats(void **state)
{
    (void)state;
    jt_data_source source = {.path = data_json_file("c.jsonl", two_replies)};
    CHECK_PARTS(&source, data_tok, NULL,
                "<|im_start|>system\nbe<|im_end|>\n<|im_start|>user\nin<|im_end|>\n"
                "<|im_start|>assistant\n",
                "on<|im_end|>",
                "\n<|im_start|>user\nat<|im_end|>\n<|im_start|>assistant\n",
                "re<|im_end|>", "\n");
    /* This format has no end token: eos is learnt in its place. */
    CHECK_PARTS(&source, data_tok, jt_chat_format_named("zephyr"),
                "<|system|>\nbe\n<|user|>\nin\n<|assistant|>\n", "on<|im_end|>",
                "\n<|user|>\nat\n<|assistant|>\n", "re<|im_end|>", "\n");
    /* A question without a reply is left out; a chat without any is skipped. */
    source.path =
        data_json_file("c.jsonl", CHAT(USER("in") "," REPLY("on") "," USER("at"))
                                      CHAT("") CHAT(USER("in")));
    CHECK_PARTS(&source, data_tok, NULL,
                "<|im_start|>user\nin<|im_end|>\n<|im_start|>assistant\n",
                "on<|im_end|>", "\n");
}

/* Vocabularies that begin a text with bos; one of them without "<|im_end|>". */
static void other_vocabularies(void **state)
{
    (void)state;
    const char *chat = data_json_file("c.jsonl", CHAT(USER("a") "," REPLY("the")));
    const char *text = data_text_file("a.txt", "the");
    vocab_file v = {0};
    jt_tokenizer *tok = NULL;
    vocab_small_bytes(&v, "llama-bpe");
    vocab_unset(&v, "tokenizer.ggml.eos_token_id");
    assert_int_equal(vocab_tokenizer(&tok, &v, NULL), JT_OK);
    vocab_free(&v);
    assert_int_equal(jt_token_eos(tok), -1);
    CHECK_PARTS(&(jt_data_source){.path = text}, tok, NULL, "<|im_start|>", "the");
    CHECK_PARTS(&(jt_data_source){.path = chat}, tok, NULL,
                "<|im_start|><|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n",
                "the<|im_end|>", "\n");
    jt_tokenizer_free(tok);

    vocab_small_pieces(&v);
    assert_int_equal(vocab_tokenizer(&tok, &v, NULL), JT_OK);
    vocab_free(&v);
    jt_batch batch = data_epoch(&(jt_data_source){.path = chat}, tok, NULL);
    int32_t eos = jt_token_eos(tok), the = jt_token_find(tok, "he", 2);
    size_t learnt = 0;
    assert_int_equal(batch.tokens[0], jt_token_bos(tok));
    for (size_t i = 0; i < batch.seq_len; i++) {
        if (batch.targets[i] == -1)
            continue;
        assert_int_equal(batch.targets[i], learnt == 0   ? jt_token_find(tok, "t", 1)
                                           : learnt == 1 ? the
                                                         : eos);
        learnt++;
    }
    assert_int_equal(learnt, 3);
    jt_batch_free(&batch);
    jt_tokenizer_free(tok);
}

static const char *npy_file(const char *name, int version, const char *header,
                            const int32_t *ids, size_t count)
{
    char file[512] = "\x93NUMPY";
    size_t start = version == 1 ? 10 : 12, len = 80;
    file[6] = (char)version;
    file[8] = (char)(len + 12 - start);
    snprintf(file + start, sizeof file - start, "%-*s\n", (int)(len + 11 - start),
             header);
    memcpy(file + len + 12, ids, count * sizeof *ids);
    return data_bytes_file(name, file, len + 12 + count * sizeof *ids);
}

#define NPY_HEADER "{'descr': '<i4', 'fortran_order': False, 'shape': "

/* Where the documents of a token file begin, and what is in them. */
static void check_tokens(const jt_data_source *source, const int32_t *ids,
                         const size_t *lengths, size_t n)
{
    size_t total = 0, skipped, train, held_out;
    for (size_t i = 0; i < n; i++)
        total += lengths[i];
    jt_data *data =
        data_open(source, 1, NULL, 100, (jt_data_options){.seq_len = total});
    jt_data_documents(data, 0, &train, &held_out, &skipped);
    assert_int_equal(jt_data_epoch_tokens(data), total);
    assert_int_equal(train, n);
    jt_batch batch;
    assert_int_equal(jt_batch_new(&batch, 1, total, NULL), JT_OK);
    assert_int_equal(jt_data_train_batch(data, 0, &batch, NULL), JT_OK);
    for (size_t i = 0, from = 0; i < n; from += lengths[i++]) {
        size_t at = 0;
        while (at < total && batch.tokens[at] != ids[from])
            at++;
        assert_true(at + lengths[i] <= total);
        assert_int_equal(batch.first[at], at);
        assert_int_equal(batch.first[at + lengths[i] - 1], at);
        assert_memory_equal(batch.tokens + at, ids + from, lengths[i] * sizeof *ids);
        assert_memory_equal(batch.targets + at, ids + from + 1,
                            (lengths[i] - 1) * sizeof *ids);
    }
    jt_batch_free(&batch);
    jt_data_free(data);
}

static void token_files(void **state)
{
    (void)state;
    static const int32_t ids[12] = {1, 2, 3, 9, 4, 5, 9, 6, 7, 8, 10, 11};
    jt_data_source source = {.path = data_bytes_file("a.bin", ids, sizeof ids)};
    check_tokens(&source, ids, (const size_t[]){12}, 1);
    source.separator = "9";
    check_tokens(&source, ids, (const size_t[]){4, 3, 5}, 3);
    source.path = npy_file("a.npy", 1, NPY_HEADER "(12,), }", ids, 12);
    check_tokens(&source, ids, (const size_t[]){4, 3, 5}, 3);
    source.path = npy_file("a.npy", 2, NPY_HEADER "(3, 4), }", ids, 12);
    check_tokens(&source, ids, (const size_t[]){4, 4, 4}, 3);
    /* Two end tokens in a row: a document of one token. */
    static const int32_t twice[6] = {9, 1, 2, 9, 9, 9};
    source.path = data_bytes_file("b.bin", twice, sizeof twice);
    check_tokens(&source, twice + 1, (const size_t[]){3}, 1);
    /* The end token of the vocabulary. */
    int32_t eos = jt_token_eos(data_tok), three[] = {1, 2, eos, 3, 4, eos, 5, 6, 7};
    source = (jt_data_source){.path = data_bytes_file("c.bin", three, sizeof three)};
    jt_data *data = data_open(&source, 1, data_tok, 0, (jt_data_options){.seq_len = 2});
    size_t train, held_out, skipped;
    jt_data_documents(data, 0, &train, &held_out, &skipped);
    assert_int_equal(train, 3);
    jt_data_free(data);
}

static void refuse(const jt_data_source *sources, size_t n, const jt_tokenizer *tok,
                   size_t n_vocab, jt_data_options options, jt_status status,
                   const char *message)
{
    jt_err err = {0};
    jt_data *data = NULL;
    assert_int_equal(jt_data_open(&data, sources, n, tok, n_vocab, &options, &err),
                     status);
    assert_null(data);
    if (!strstr(err.msg, message) || strchr(err.msg, '\n'))
        fail_msg("'%s' lacks '%s'", err.msg, message);
}

/* The message has these words and the path. */
static void refuse_file(const char *path, const char *message)
{
    jt_data_source source = {.path = path};
    jt_data_options options = {.seq_len = 8};
    refuse(&source, 1, data_tok, 0, options, JT_E_FORMAT, message);
    refuse(&source, 1, data_tok, 0, options, JT_E_FORMAT, path);
}

static void refuse_text(const char *name, const char *text, const char *message)
{
    refuse_file(data_text_file(name, text), message);
}

static void refuse_bytes(const char *name, const void *bytes, size_t len,
                         const char *message)
{
    refuse_file(data_bytes_file(name, bytes, len), message);
}

static void bad_text(void **state)
{
    (void)state;
    refuse_text("e.txt", "", "the file is empty");
    refuse_text("e.jsonl", "", "the file is empty");
    refuse_text("e.bin", "", "the file is empty");
    refuse_text("e.npy", "", "the file is empty");
    refuse_text("blank.txt", " \n\n\t\n",
                "no document with something to learn (0 skipped)");
    refuse_text("blank.jsonl", "\n \n", "no document with something to learn");
    refuse_file(data_json_file("skip.jsonl", "{'text': ''}\n{'text': ''}\n"),
                "(2 skipped)");
    refuse_bytes("nul.txt", "some\0text", 9, "a binary file: byte 4 is NUL");
    refuse_text("latin1.txt", "caf\xe9 cr\xe8me", "not UTF-8 text: 2 of 10 bytes");
    /* One broken byte in two hundred is let through, three are not. */
    char text[201] = "";
    memset(text, 'a', 200);
    text[100] = '\xff';
    jt_data_source source = {.path = data_text_file("one.txt", text)};
    jt_data_free(data_open(&source, 1, data_tok, 0, (jt_data_options){.seq_len = 8}));
    text[50] = text[150] = '\xff';
    refuse_text("three.txt", text, "3 of 200 bytes are invalid");
}

static void bad_records(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{'text': 'a b'}\n{'text': 'a\n", "bad.jsonl': line 2: bad JSON"},
        {"\n\n{'text': 'a'} x\n", "line 3: bad JSON"},
        {"plain text\n", "line 1: bad JSON"},
        {"{'text': '\xff'}\n", "line 1: bad JSON"},
        {"{'text': 'a', 'text': 'b'}\n", "line 1: bad JSON"},
        {"[1, 2]\n", "line 1: a record has \"text\", or"},
        {"{'content': 'a'}\n", "line 1: a record has \"text\", or"},
        {"{'prompt': 'a'}\n", "line 1: a record has"},
        {"{'text': 'a', 'messages': []}\n", "line 1: a record has"},
        {"{'text': 5}\n", "line 1: \"text\" is not a string"},
        {"{'completion': 'a'}\n", "\"prompt\" and \"completion\" must both"},
        {"{'prompt': null, 'completion': 'a'}\n", "must both be strings"},
        {"{'messages': 'a'}\n", "\"messages\" is not a list"},
        {CHAT("5"), "message 1 has no \"role\""},
        {CHAT(USER("a") ", {'role': 'assistant'}"), "message 2 has no \"role\" and"},
        {CHAT(REPLY("a")), "message 1 is of 'assistant', expected 'user'"},
        {CHAT(USER("a") "," USER("a")), "2 is of 'user', expected 'assistant'"},
        {CHAT(USER("a") ", {'role': 'asistant', 'content': ''}"), "2 is of 'asistant'"},
        {CHAT(USER("a") "," REPLY("a") "," SYSTEM("a")),
         "message 3 is of 'system', expected 'user'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuse_file(data_json_file("bad.jsonl", cases[i].text), cases[i].message);
}

static void bad_tokens(void **state)
{
    (void)state;
    static const int32_t ids[6] = {1, 2, 3, 4, 5, 6};
    refuse_bytes("odd.bin", ids, 9, "its 9 bytes are not a multiple of 4");
    refuse_bytes("large.bin", (const int32_t[]){1, 2, 272, 3}, 16,
                 "token 2 is 272, outside the vocabulary of 272");
    refuse_bytes("negative.bin", (const int32_t[]){1, -1}, 8, "token 1 is -1");
    refuse_bytes("one.bin", ids, 4, "(1 skipped)");
    static const struct {
        const char *header, *message;
        size_t count;
    } cases[] = {
        {NPY_HEADER "(7,)}", "its size is not what its shape says", 6},
        {NPY_HEADER "(5,)}", "its size is not what its shape says", 6},
        {NPY_HEADER "(99999999999999999999, 3)}", "its size is not what", 6},
        {NPY_HEADER "(4611686018427387904, 4)}", "its size is not what", 6},
        {NPY_HEADER "(1, 2, 3)}", "not of one or two dimensions", 6},
        {NPY_HEADER "()}", "not of one or two dimensions", 6},
        {NPY_HEADER "6}", "not of one or two dimensions", 6},
        {"{'descr': '<i4', 'fortran_order': False}", "not of one or two", 6},
        {"{'descr': '<i8', 'fortran_order': False, 'shape': (3,)}", "not '<i4'", 6},
        {"{'descr': '<i4', 'fortran_order': True, 'shape': (3, 2)}", "Fortran", 6},
        {"", "dtype", 6},
        {NPY_HEADER "(0,)}", "no document", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuse_file(npy_file("a.npy", 1, cases[i].header, ids, cases[i].count),
                    cases[i].message);
    refuse_bytes("cut.npy", "\x93NUMPY\x01\0\xff\xff{'descr'", 18, "cut off");
    refuse_bytes("short.npy", "\x93NUMPY", 6, "does not begin with its magic");
    refuse_bytes("other.npy", "PK\3\4 an npz file", 16,
                 "does not begin with its magic");
    refuse_bytes("skew.npy", "\x93NUMPY\x01\0\x39\0" NPY_HEADER "()}    ", 67,
                 "not aligned");
}

static void bad_options(void **state)
{
    (void)state;
    jt_data_source a = {.path = data_text_file("a.txt", "a text")}, b = a;
    jt_data_source two[2] = {a, b};
    jt_data_options fine = {.seq_len = 8}, bad = fine;
    refuse(&a, 1, NULL, 100, fine, JT_E_ARG, "a tokenizer is needed");
    refuse(&a, 0, data_tok, 0, fine, JT_E_ARG, "not 0");
    refuse(&a, 1, data_tok, 100, fine, JT_E_ARG, "272 tokens, the model only 100");
    refuse(&a, 1, NULL, 0, fine, JT_E_ARG, "cannot have 0 tokens");
    bad.seq_len = 1;
    refuse(&a, 1, data_tok, 0, bad, JT_E_ARG, "cannot have 1 tokens");
    bad = (jt_data_options){.seq_len = 8, .held_out = 0.6};
    refuse(&a, 1, data_tok, 0, bad, JT_E_ARG, "must be from 0 to 0.5");
    bad.held_out = NAN;
    refuse(&a, 1, data_tok, 0, bad, JT_E_ARG, "must be from 0 to 0.5");
    two[1].weight = -1;
    refuse(two, 2, data_tok, 0, fine, JT_E_ARG, "cannot have the weight -1");
    two[1].weight = 1;
    refuse(two, 2, data_tok, 0, fine, JT_E_ARG, "give it to all or none");
    const char *wrong[] = {"", "x", "3x", "-1", "272", "99999999999999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        jt_data_source tokens = {.path =
                                     data_bytes_file("t.bin", "\1\0\0\0\2\0\0\0", 8),
                                 .separator = wrong[i]};
        refuse(&tokens, 1, data_tok, 0, fine, JT_E_ARG, "not the number of a token");
    }
    a.path = scratch_path(&data_dir, "none.txt");
    refuse(&a, 1, data_tok, 0, fine, JT_E_IO, "none.txt': No such file");
    a.path = data_dir.dir;
    refuse(&a, 1, data_tok, 0, fine, JT_E_IO, "not a regular file");
    a.path = data_text_file("locked.txt", "a text");
    chmod(a.path, 0);
    if (access(a.path, R_OK) != 0) /* root may read everything */
        refuse(&a, 1, data_tok, 0, fine, JT_E_IO, "Permission denied");
}

typedef struct reports {
    size_t count, stop_after;
    unsigned long long last, total;
    char what[80];
} reports;

static int on_progress(void *user, const char *what, unsigned long long done,
                       unsigned long long total)
{
    reports *r = user;
    assert_true(r->count == 0 ? done == 0 : done >= r->last);
    assert_true(done <= total);
    r->last = done;
    r->total = total;
    snprintf(r->what, sizeof r->what, "%s", what);
    return ++r->count == r->stop_after;
}

static void progress(void **state)
{
    (void)state;
    enum { BYTES = 7 << 19 };
    char *text = malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++) /* int32: 10 */
        text[i] = i % 4 ? '\0' : '\n';
    const char *tokens = data_bytes_file("big.bin", text, BYTES);
    for (size_t i = 0; i < BYTES; i++)
        text[i] = i % 60 == 59 ? '\n' : 'a';
    const char *const paths[] = {tokens, data_bytes_file("big.txt", text, BYTES)};
    free(text);
    for (size_t p = 0; p < 2; p++) {
        jt_data_source source = {.path = paths[p], .domain = "tales"};
        reports all = {0}, stopped = {.stop_after = 3};
        jt_data_options options = {.seq_len = 8, .progress = {on_progress, &all}};
        jt_data *data = NULL;
        jt_data_free(data_open(&source, 1, data_tok, 0, options));
        assert_true(all.count >= 5);
        assert_int_equal(all.last, all.total);
        assert_string_equal(all.what, "reading tales");
        options.progress.user = &stopped;
        assert_int_equal(jt_data_open(&data, &source, 1, data_tok, 0, &options, NULL),
                         JT_E_INTERRUPTED);
        assert_int_equal(stopped.count, 3);
    }
}

/* Each allocation of opening and of a batch fails once. */
static void failing_allocations(void **state)
{
    (void)state;
    jt_data_source sources[] = {
        {.path = data_text_file("a.txt", "one\n\ntwo\n\nthree"), .separator = ""},
        {.path = data_json_file("a.jsonl", two_replies)},
        {.path = data_numbers_file("a.bin", 10), .separator = "0"},
    };
    jt_data_options options = {.seq_len = 8, .held_out = 0.4};
    long n = 0;
    for (bool done = false; !done; n++) {
        jt_err err = {0};
        jt_data *data = NULL;
        jt_batch batch = {0};
        jt_fault_after(n);
        jt_status status =
            jt_data_open(&data, sources, 3, data_tok, 10000, &options, &err);
        if (status == JT_OK)
            status = jt_batch_new(&batch, 3, 8, &err);
        if (status == JT_OK)
            status = jt_data_train_batch(data, 0, &batch, &err);
        jt_fault_after(-1);
        done = status == JT_OK;
        if (!done) {
            assert_int_equal(status, JT_E_MEMORY);
            assert_non_null(strstr(err.msg, "out of memory"));
        }
        jt_batch_free(&batch);
        jt_data_free(data);
    }
    assert_true(n > 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_documents),
        cmocka_unit_test(long_text),
        cmocka_unit_test(json_documents),
        cmocka_unit_test(completions),
        cmocka_unit_test(chats),
        cmocka_unit_test(other_vocabularies),
        cmocka_unit_test(token_files),
        cmocka_unit_test(bad_text),
        cmocka_unit_test(bad_records),
        cmocka_unit_test(bad_tokens),
        cmocka_unit_test(bad_options),
        cmocka_unit_test(progress),
        cmocka_unit_test(failing_allocations),
    };
    return cmocka_run_group_tests(tests, data_start, data_stop);
}
