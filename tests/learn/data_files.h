/* What the tests of the training data share: a vocabulary, files, and the documents
 * that come out of them. */
#ifndef TEST_DATA_FILES_H
#define TEST_DATA_FILES_H

#include "learn/data.h"
#include "scratch.h"

/* Made by data_start: the vocabulary of the tiny golden models (byte-level;
 * "<|im_end|>" is eos, no bos is added) and an empty folder. For
 * cmocka_run_group_tests. */
extern jt_tokenizer *data_tok;
extern scratch data_dir;
int data_start(void **state);
int data_stop(void **state);

/* Write a file of the folder and return its path. */
const char *data_text_file(const char *name, const char *text);
/* The same; ' in the text is " in the file, so that JSON can be read here. */
const char *data_json_file(const char *name, const char *text);
const char *data_bytes_file(const char *name, const void *bytes, size_t len);
/* Token file of `docs` documents: document d has the tokens d * 1000 + 1, + 2, ... and
 * then the end token 0; lengths with it are 3 to 60, the longest at 7 and 17. */
const char *data_numbers_file(const char *name, size_t docs);
size_t data_numbers_length(size_t doc);

/* Open or fail the test. */
jt_data *data_open(const jt_data_source *sources, size_t n, const jt_tokenizer *tok,
                   size_t n_vocab, jt_data_options options);

/* The whole first epoch of a source that is not shared out, as one sequence. */
jt_batch data_epoch(const jt_data_source *source, const jt_tokenizer *tok,
                    const jt_chat_format *chat);

#endif
