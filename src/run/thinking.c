/* The marks around thoughts of published models. */
#include <string.h>

#include "junto/chat.h"

/* What Qwen3 says when its budget of thoughts is spent (Qwen3 Technical Report, section
 * 4.3). It was not trained; other models understand it as well. */
#define ENOUGH                                                                   \
    "\n\nConsidering the limited time by the user, I have to give the solution " \
    "based on the thinking directly now."

#define TAGS(begin, end)                                                    \
    {                                                                       \
        end,                                                                \
        {                                                                   \
            .open = (begin), .close = (end), .cut = ENOUGH "\n" end "\n\n", \
            .skip = end "\n\n"                                              \
        }                                                                   \
    }

/* gpt-oss writes messages into channels, each ended by <|end|>. */
#define FINAL "<|channel|>final<|message|>"
#define TURN  "<|start|>assistant"

static const struct {
    const char *sign; /* found in the template, or a token of the vocabulary */
    jt_thinking marks;
} known[] = {
    {"<|channel|>",
     {.open = "<|channel|>analysis<|message|>",
      .close = "<|end|>",
      .silent = {TURN, FINAL},
      .cut = ENOUGH "<|end|>" TURN FINAL,
      .skip = "<|end|>" TURN FINAL}},
    {"<|channel>", /* Gemma 4 */
     {.open = "<|channel>thought\n",
      .close = "<channel|>",
      .cut = ENOUGH "\n<channel|>",
      .skip = "<channel|>"}},
    TAGS("[THINK]", "[/THINK]"),                    /* Magistral */
    TAGS("<|START_THINKING|>", "<|END_THINKING|>"), /* Command A */
    TAGS("<seed:think>", "</seed:think>"),          /* Seed-OSS */
    TAGS("<think>", "</think>"),                    /* DeepSeek R1, Qwen3, .. */
};
enum { KNOWN = sizeof known / sizeof *known };

const jt_thinking *jt_thinking_find(const char *source, size_t len,
                                    const jt_tokenizer *tok)
{
    for (size_t i = 0; i < KNOWN; i++) {
        if (memmem(source, len, known[i].sign, strlen(known[i].sign)))
            return &known[i].marks;
    }
    for (size_t i = 0; tok && i < KNOWN; i++) {
        if (jt_token_find(tok, known[i].sign, strlen(known[i].sign)) >= 0)
            return &known[i].marks;
    }
    return NULL;
}

bool jt_thinking_opened(const jt_thinking *thinking, const char *text, size_t len)
{
    while (len && strchr(" \n\r\t", text[len - 1]))
        len--;
    size_t n = thinking ? strlen(thinking->open) : 0;
    return n && len >= n && memcmp(text + len - n, thinking->open, n) == 0;
}
