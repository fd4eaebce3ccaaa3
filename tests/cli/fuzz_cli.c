/* Fuzzing the command line: the words of a command, separated by NUL or line ends, go
 * through the parser of the verb that the first of them names. Nothing is executed.
 * Compiled with every source of src/cli but main.c. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { MAX_WORDS = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Cut `text` into words, in place. */
static int split(char *text, size_t size, char **words)
{
    int count = 0;
    for (size_t i = 0; i < size && count < MAX_WORDS;) {
        words[count++] = text + i;
        while (i < size && text[i] && text[i] != '\n')
            i++;
        text[i++] = '\0';
    }
    return count;
}

static void parse(const cli_verb *verb, int count, char **words)
{
    jt_err err = {0};
    void *args = malloc(verb->args_size);
    if (!args)
        return;
    jt_status status = cli_parse(verb, count, words, args, &err);
    assert(status == JT_OK || (status == JT_E_ARG && err.msg[0]));
    (void)status;
    cli_args_free(verb, args);
    free(args);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *words[MAX_WORDS];
    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    int count = split(text, size, words);
    const cli_verb *verb = count ? cli_find_verb(words[0]) : NULL;
    if (verb)
        parse(verb, count - 1, words + 1);
    free(text);
    return 0;
}
