/* A vocabulary in the making: what readers of other formats fill in, and what is then
 * written as keys of GGUF. */
#ifndef JT_TEXT_DRAFT_H
#define JT_TEXT_DRAFT_H

#include "base/memory.h"
#include "format/json.h"
#include "format/names.h"
#include "junto/gguf.h"

/* Larger ones do not exist; files that claim more are wrong. */
enum { JT_DRAFT_MOST = 1 << 24 };

typedef enum jt_role {
    JT_ROLE_BOS,
    JT_ROLE_EOS,
    JT_ROLE_UNKNOWN,
    JT_ROLE_PAD,
    JT_ROLE_SEP,
    JT_ROLE_CLS,
    JT_ROLE_MASK,
    JT_ROLES
} jt_role;

typedef struct jt_draft_token {
    jt_str text; /* data NULL: no token has this id */
    float score;
    unsigned char type; /* jt_token_type */
    bool strip_left, strip_right, single_word;
} jt_draft_token;

typedef struct jt_ids {
    int32_t *items;
    size_t count, capacity;
} jt_ids;

typedef struct jt_template {
    jt_str name; /* "" for the one that is used when none is named */
    jt_str text;
} jt_template;

enum { JT_TEMPLATES_MOST = 16 };

/* Starts as {0} but for what jt_draft_new sets. Texts are borrowed, or lie in `arena`.
 */
typedef struct jt_draft {
    jt_arena arena;
    const char *model; /* tokenizer.ggml.model */
    const char *pre;   /* tokenizer.ggml.pre; NULL: none */
    jt_draft_token *tokens;
    size_t count, capacity;
    jt_names by_text; /* tokens that are there */
    jt_str *merges;   /* "left right" */
    size_t n_merges, merges_capacity;
    bool scores; /* are set */
    /* The steps as tokenizer.json has them, kept when no key of GGUF's says the same.
     */
    jt_str normalizer, pre_tokenizer;
    bool whole_words;
    uint32_t word_most; /* 0: as always */
    jt_str charsmap;
    int prefix, shrink, lower, strip; /* keys of the kind: -1 is not set */
    int32_t roles[JT_ROLES];          /* -1: none */
    jt_str role_texts[JT_ROLES];      /* looked up when all tokens are known */
    int add_bos, add_eos;             /* -1: nothing said */
    bool plain;        /* if nothing is said, nothing is put around a text */
    bool framed;       /* begin and end are known, and say more than add_bos */
    jt_ids begin, end; /* put before and after a text */
    jt_ids ends;       /* of a reply */
    jt_template templates[JT_TEMPLATES_MOST];
    size_t n_templates;
    jt_err *err;
} jt_draft;

void jt_draft_new(jt_draft *draft, jt_err *err);
void jt_draft_free(jt_draft *draft);

/* Give `id` its text and type. A text or id that is taken is refused, but for the same
 * token again, whose type then is the later one. Errors: JT_E_FORMAT, JT_E_MEMORY. */
jt_status jt_draft_set(jt_draft *draft, int64_t id, jt_str text, unsigned char type);
/* An added token as Hugging Face files describe it; what is not said is false, an id
 * -1.
 * {"id": 3, "content": "<|im_end|>", "special": true, "lstrip": false, ...} */
typedef struct jt_draft_added {
    int64_t id;
    jt_str text;
    bool special, strip_left, strip_right, single_word;
} jt_draft_added;
jt_draft_added jt_draft_read_added(jt_json *j);
/* The id of a text, -1 when there is none. */
int32_t jt_draft_find(const jt_draft *draft, jt_str text);
jt_status jt_draft_add_merge(jt_draft *draft, jt_str left, jt_str right);
jt_status jt_draft_add_id(jt_draft *draft, jt_ids *ids, int64_t id);

/* A copy in the draft's arena; NULL data when out of memory. */
jt_str jt_draft_copy(jt_draft *draft, jt_str text);

/* Check what is there, name ids that have no token, fill up to `size`, set the keys. */
jt_status jt_draft_write(jt_draft *draft, size_t size, jt_gguf_writer *w);

/* Readers. `text` is the whole file and outlives the draft. */
jt_status jt_import_json(jt_draft *draft, jt_str text);
jt_status jt_import_tekken(jt_draft *draft, jt_str text);
jt_status jt_import_sentencepiece(jt_draft *draft, jt_str text);
jt_status jt_import_ranks(jt_draft *draft, jt_str text);
/* Merges of byte-level tokens by rank: token `first` has the lowest, up to `end`. */
jt_status jt_import_rank_merges(jt_draft *draft, size_t first, size_t end);

/* The "post_processor" of a tokenizer.json, before which the reader stands. */
jt_status jt_import_post(jt_draft *draft, jt_json *j);

/* Readers of what stands beside a vocabulary. */
jt_status jt_import_tokenizer_config(jt_draft *draft, jt_str text);
jt_status jt_import_special_map(jt_draft *draft, jt_str text);
jt_status jt_import_added_tokens(jt_draft *draft, jt_str text);
jt_status jt_import_generation_config(jt_draft *draft, jt_str text);
jt_status jt_import_chat_template(jt_draft *draft, jt_str text);
jt_status jt_import_template_json(jt_draft *draft, jt_str text);
jt_status jt_import_config(jt_draft *draft, jt_str text, size_t *size);

#endif
