/* Inside the configuration: the table of keys. */
#ifndef JT_CONFIG_IMPL_H
#define JT_CONFIG_IMPL_H

#include <jansson.h>

#include "learn/config.h"

/* Kind of a key, and the type of its field. */
typedef enum jt_config_kind {
    JT_CONFIG_BOOL,   /* bool */
    JT_CONFIG_INT,    /* int in min .. max */
    JT_CONFIG_LONG,   /* int64_t in min .. max */
    JT_CONFIG_REAL,   /* double in min .. max */
    JT_CONFIG_TEXT,   /* const char *; NULL only when `initial` is */
    JT_CONFIG_PATH,   /* the same, relative to the file */
    JT_CONFIG_CHOICE, /* const char *, one of the words of `choices` */
} jt_config_kind;

typedef struct jt_config_key {
    const char *name;
    jt_config_kind kind;
    size_t offset;       /* in the struct of its section or item */
    const char *initial; /* default, as the user would write it after "--set key=" */
    double min, max;
    const char *choices; /* "linear|cosine" */
    const char *help;    /* a sentence without a full stop */
} jt_config_key;

/* A table of the file, or, with item_bytes, a list of tables. */
typedef struct jt_config_section {
    const char *name, *help;
    const jt_config_key *keys; /* ends with {0} */
    size_t offset;             /* in jt_config: of the struct, or of the array */
    size_t item_bytes, count_offset, most; /* a list: item, its count, at most */
    bool needed;                           /* a list with at least one item */
} jt_config_section;

extern const jt_config_section jt_config_sections[]; /* ends with {0} */

/* Do the values fit together? Fills in those that follow from others. */
jt_status jt_config_settle(jt_config *config, jt_err *err);

/* What may stand at a key: "16 to 64", "linear, cosine", "a text", "" for booleans. */
void jt_config_describe(const jt_config_key *key, char *text, size_t size);

#endif
