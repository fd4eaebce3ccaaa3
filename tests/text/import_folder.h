/* Folders of models for the import tests. */
#ifndef TEST_TEXT_IMPORT_FOLDER_H
#define TEST_TEXT_IMPORT_FOLDER_H

#include <stddef.h>

#include "junto/tokenizer.h"

/* The tokenizer of tests/text/data/folders/NAME; the test fails when it cannot be read.
 */
jt_tokenizer *import_folder(const char *name);

/* Import the vocabulary in any folder: a file of keys, then a tokenizer from it. `file`
 * (may be NULL) is handed over. */
jt_status import_any(jt_tokenizer **out, jt_gguf **file, const char *folder,
                     jt_err *err);

/* A whole file; the test fails when it cannot be read. free() the result. */
char *import_read(const char *path, size_t *bytes);

#endif
