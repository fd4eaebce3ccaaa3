/* Files of the tokenizer tests. */
#ifndef TEST_TEXT_GOLDEN_H
#define TEST_TEXT_GOLDEN_H

#include <stddef.h>

#include "junto/tokenizer.h"

/* A whole file of tests/text/data/ ("bytes.gguf"); the test fails when it cannot be
 * read. free() the result. */
char *golden_read(const char *name, size_t *bytes);

/* A tokenizer from tests/text/data/; `pre`, when not NULL, takes the place of what the
 * file says. */
jt_tokenizer *golden_tokenizer(const char *name, const char *pre);

/* Undo the escapes (\xNN) of a line of strings.txt, in place; its length. */
size_t golden_unescape(char *line, size_t len);

#endif
