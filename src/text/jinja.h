/* The inside of the template interpreter: values, syntax tree, one run.
 *
 * jinja_lex.c      source to tokens
 * jinja_expr.c     tokens to expressions        jinja_parse.c   ... to statements
 * jinja_eval.c     the value of an expression   jinja_run.c     what statements do
 * jinja_value.c    lists, dicts, equality, order, attributes
 * jinja_show.c     str(), repr() and tojson
 * jinja_strings.c, jinja_lists.c, jinja_filters.c, jinja_tests.c, jinja_globals.c
 *                  what templates can call
 *
 * Semantics are those of Jinja 3.1 on Python values, as far as templates can tell. */
#ifndef JT_TEXT_JINJA_H
#define JT_TEXT_JINJA_H

#include <stdbool.h>

#include "base/memory.h"
#include "junto/gguf.h"
#include "junto/template.h"

/* ---- values ------------------------------------------------------------------------
 */

typedef enum jt_jkind {
    JT_J_UNDEFINED, /* .text: the name that was not found */
    JT_J_NONE,
    JT_J_BOOL,
    JT_J_INT,
    JT_J_FLOAT,
    JT_J_STRING,
    JT_J_LIST,
    JT_J_TUPLE,
    JT_J_DICT,
    JT_J_NAMESPACE, /* a dict whose members can be set; also `loop` */
    JT_J_CALLABLE
} jt_jkind;

typedef struct jt_jlist jt_jlist;
typedef struct jt_jdict jt_jdict;
typedef struct jt_jcallable jt_jcallable;

typedef struct jt_jval {
    jt_jkind kind;
    union {
        bool truth;
        int64_t integer;
        double number;
        jt_str text;
        jt_jlist *list; /* LIST and TUPLE */
        jt_jdict *dict; /* DICT and NAMESPACE */
        const jt_jcallable *callable;
    };
} jt_jval;

struct jt_jlist {
    jt_jval *item;
    size_t count, capacity;
};

/* In the order of insertion. */
struct jt_jdict {
    struct jt_jpair {
        jt_jval key, value;
    } * pair;
    size_t count, capacity;
};

/* ---- syntax tree -------------------------------------------------------------------
 */

/* What stands in a node's a, b, c, list, text is said beside its kind. */
typedef enum jt_jnode_kind {
    /* expressions */
    JT_N_CONST,   /* value */
    JT_N_NAME,    /* text */
    JT_N_LIST,    /* list: items */
    JT_N_TUPLE,   /* list: items */
    JT_N_DICT,    /* list: key, value, key, value, ... */
    JT_N_ATTR,    /* a.text */
    JT_N_ITEM,    /* a[b] */
    JT_N_SLICE,   /* as b of an ITEM: a:b:c, each may be NULL */
    JT_N_CALL,    /* a(list) */
    JT_N_KEYWORD, /* in the list of a call: text=a */
    JT_N_FILTER,  /* a|text(list); a NULL: of the text of a block */
    JT_N_TEST,    /* a is text(list) */
    JT_N_NOT,
    JT_N_NEG,
    JT_N_POS, /* of a */
    JT_N_AND,
    JT_N_OR,      /* of a and b */
    JT_N_COMPARE, /* a, list: OPERANDs */
    JT_N_OPERAND, /* op a */
    JT_N_BINARY,  /* a op b */
    JT_N_COND,    /* b if a else c (NULL: undefined) */
    /* statements */
    JT_N_TEXT,      /* text */
    JT_N_PRINT,     /* a */
    JT_N_IF,        /* a: list, otherwise: other */
    JT_N_FOR,       /* a in b if c: list, none: other */
    JT_N_SET,       /* a = b; b NULL: the text of list, through the filters c */
    JT_N_MACRO,     /* text(params): list */
    JT_N_PARAM,     /* text, default a or NULL */
    JT_N_CALLBLOCK, /* a, a CALL; caller(params): list */
    JT_N_FILTERED,  /* the text of list through the filters a */
    JT_N_BREAK,
    JT_N_CONTINUE
} jt_jnode_kind;

typedef enum jt_jop {
    JT_OP_ADD,
    JT_OP_SUB,
    JT_OP_MUL,
    JT_OP_DIV,
    JT_OP_FLOORDIV,
    JT_OP_MOD,
    JT_OP_POW,
    JT_OP_CONCAT,
    JT_OP_EQ,
    JT_OP_NE,
    JT_OP_LT,
    JT_OP_LE,
    JT_OP_GT,
    JT_OP_GE,
    JT_OP_IN,
    JT_OP_NOT_IN
} jt_jop;

typedef struct jt_jnode jt_jnode;
struct jt_jnode {
    jt_jnode_kind kind;
    jt_jop op;
    int line;
    jt_str text;
    jt_jval value;
    jt_jnode *a, *b, *c;
    jt_jnode *list, *other, *params; /* first of each; the others by `next` */
    jt_jnode *next;
};

struct jt_template {
    jt_arena arena;
    jt_jnode *body;
};

/* ---- tokens ------------------------------------------------------------------------
 */

typedef enum jt_jtoken_kind {
    JT_T_END,
    JT_T_TEXT,
    JT_T_BLOCK_BEGIN,
    JT_T_BLOCK_END,
    JT_T_PRINT_BEGIN,
    JT_T_PRINT_END,
    JT_T_NAME,
    JT_T_STRING, /* text: without quotes, escapes resolved */
    JT_T_INT,
    JT_T_FLOAT,
    JT_T_OP /* text: "==", "(", ... */
} jt_jtoken_kind;

typedef struct jt_jtoken {
    jt_jtoken_kind kind;
    int line;
    jt_str text;
    int64_t integer;
    double number;
} jt_jtoken;

/* Cut `source` into tokens, the last of kind END; all lies in `arena`. */
jt_status jt_jinja_lex(jt_jtoken **out, jt_str source, jt_arena *arena, jt_err *err);

/* The parser: where it is in the tokens. The error is sticky: after a failure the
 * current token is END and nodes are NULL. */
typedef struct jt_jparser {
    const jt_jtoken *token;
    jt_arena *arena;
    jt_err *err;
    jt_status status;
    int depth;      /* of nested expressions and blocks */
    int loop_depth; /* break and continue are for loops */
} jt_jparser;

/* Statements up to the end of the source. */
jt_jnode *jt_jinja_parse(jt_jparser *p);

/* Expressions. `tuple`: may be a tuple without parentheses; `simple`: only primaries,
 * as targets of for and set are. */
jt_jnode *jt_jparse_expression(jt_jparser *p);
jt_jnode *jt_jparse_tuple(jt_jparser *p);
jt_jnode *jt_jparse_loop_values(jt_jparser *p); /* a tuple, but "if" ends it */
jt_jnode *jt_jparse_target(jt_jparser *p);
jt_jnode *jt_jparse_postfix(jt_jparser *p, jt_jnode *node);
jt_jnode *jt_jparse_filters(jt_jparser *p, jt_jnode *node); /* after "|" or "filter" */

jt_jnode *jt_jnode_new(jt_jparser *p, jt_jnode_kind kind);
void jt_jparse_fail(jt_jparser *p, const char *what); /* "expected ..." */
bool jt_jparse_is(const jt_jparser *p, jt_jtoken_kind kind, const char *text);
bool jt_jparse_skip(jt_jparser *p, jt_jtoken_kind kind, const char *text);
void jt_jparse_expect(jt_jparser *p, jt_jtoken_kind kind, const char *text);
jt_str jt_jparse_name(jt_jparser *p);
bool jt_jparse_enter(jt_jparser *p); /* one level deeper; false: too deep */

/* ---- a run -------------------------------------------------------------------------
 */

typedef struct jt_jtext { /* growing text */
    char *data;
    size_t len, capacity;
} jt_jtext;

typedef struct jt_jscope {
    struct jt_jscope *up;
    jt_jdict vars;
} jt_jscope;

/* One rendering. The error is sticky; what is computed after it is not looked at. */
typedef struct jt_jrun {
    jt_arena arena;
    size_t bytes_left;
    uint64_t steps_left;
    int64_t now;
    jt_jscope *scope;
    jt_jtext *out; /* where statements print */
    int depth, line;
    jt_status status;
    jt_err *err;
} jt_jrun;

typedef struct jt_jargs {
    const jt_jval *item;
    size_t count;
    jt_jdict named;
} jt_jargs;

typedef jt_jval jt_jfunction(jt_jrun *run, jt_jval self, const jt_jargs *args);

/* A function, bound to `self`, or a macro. */
struct jt_jcallable {
    jt_jfunction *function; /* NULL: a macro */
    jt_jval self;
    const jt_jnode *macro;
    jt_jscope *scope; /* in which the macro was made */
};

/* Named functions; a table ends with a NULL name. */
typedef struct jt_jnamed {
    const char *name;
    jt_jfunction *function;
} jt_jnamed;
jt_jfunction *jt_jnamed_find(const jt_jnamed *table, jt_str name);

extern const jt_jnamed jt_jinja_globals[], jt_jinja_string_methods[],
    jt_jinja_string_filters[], jt_jinja_list_filters[], jt_jinja_value_filters[],
    jt_jinja_tests[];
jt_jfunction *jt_jinja_filter(jt_str name);

/* Fail with a message (the line is put before it). */
void jt_jfail(jt_jrun *run, const char *fmt, ...) JT_PRINTF(2, 3);
/* Pay for work; false when the run has failed or the steps are used up. */
bool jt_jstep(jt_jrun *run, size_t steps);
/* One level deeper in values or calls; false: too deep. Left with run->depth--. */
bool jt_jenter(jt_jrun *run);
/* Scratch memory of the run; NULL (and it fails) when there is none. */
void *jt_jalloc(jt_jrun *run, size_t count, size_t size);

/* jinja_eval.c and jinja_run.c */
jt_jval jt_jeval(jt_jrun *run, const jt_jnode *node);
jt_jval jt_jcall(jt_jrun *run, jt_jval callee, const jt_jargs *args);
jt_jval jt_jcall_macro(jt_jrun *run, const jt_jcallable *macro, const jt_jargs *args);
void jt_jexecute(jt_jrun *run, const jt_jnode *body);
void jt_jdefine(jt_jrun *run, jt_str name, jt_jval value); /* in the current scope */
/* A filter or test with the arguments of its node. */
jt_jval jt_japply(jt_jrun *run, const jt_jnode *node, jt_jval self);

/* Argument `i` or that of this name; false when it was not given. The second form
 * gives a usual value. */
bool jt_jarg(const jt_jargs *args, size_t i, const char *name, jt_jval *out);
int64_t jt_jarg_int(jt_jrun *run, const jt_jargs *args, size_t i, const char *name,
                    int64_t usual);
bool jt_jarg_truth(const jt_jargs *args, size_t i, const char *name, bool usual);
/* A text; fails on another kind. `usual` NULL: it must be given. */
jt_str jt_jarg_text(jt_jrun *run, const jt_jargs *args, size_t i, const char *name,
                    const char *usual);

/* ---- jinja_value.c -----------------------------------------------------------------
 */

static inline jt_jval jt_jundefined(jt_str name)
{
    return (jt_jval){.kind = JT_J_UNDEFINED, .text = name};
}
static inline jt_jval jt_jnone(void)
{
    return (jt_jval){.kind = JT_J_NONE};
}
static inline jt_jval jt_jbool(bool truth)
{
    return (jt_jval){.kind = JT_J_BOOL, .truth = truth};
}
static inline jt_jval jt_jint(int64_t integer)
{
    return (jt_jval){.kind = JT_J_INT, .integer = integer};
}
static inline jt_jval jt_jfloat(double number)
{
    return (jt_jval){.kind = JT_J_FLOAT, .number = number};
}
static inline jt_jval jt_jstring(jt_str text)
{
    return (jt_jval){.kind = JT_J_STRING, .text = text};
}
static inline jt_str jt_jstr(const char *text)
{
    return (jt_str){text, __builtin_strlen(text)};
}
jt_jval jt_jlist_new(jt_jrun *run, jt_jkind kind); /* LIST or TUPLE */
jt_jval jt_jdict_new(jt_jrun *run, jt_jkind kind); /* DICT or NAMESPACE */
void jt_jlist_add(jt_jrun *run, jt_jlist *list, jt_jval item);
void jt_jdict_set(jt_jrun *run, jt_jdict *dict, jt_jval key, jt_jval value);
jt_jval *jt_jdict_find(const jt_jdict *dict, jt_jval key); /* NULL: not there */
jt_jval *jt_jdict_find_name(const jt_jdict *dict, const char *name);

bool jt_jsame_text(jt_str a, jt_str b);
bool jt_jis_list(jt_jval v);   /* list or tuple */
bool jt_jis_number(jt_jval v); /* int, float or bool */
double jt_jnumber(jt_jval v);
int64_t jt_jinteger(jt_jval v); /* of int and bool */
bool jt_jtruth(jt_jval v);
bool jt_jequal(jt_jrun *run, jt_jval a, jt_jval b);
/* -1, 0 or 1; fails where Python knows no order. */
int jt_jcompare(jt_jrun *run, jt_jval a, jt_jval b);
bool jt_jcontains(jt_jrun *run, jt_jval in, jt_jval item);
/* What a loop over it gives, as a list: characters, keys, items. */
const jt_jlist *jt_jitems(jt_jrun *run, jt_jval v);
jt_jval jt_jattribute(jt_jrun *run, jt_jval of, jt_str name);
jt_jval jt_jitem(jt_jrun *run, jt_jval of, jt_jval key);
/* A path as filters take it: "function.name", or an index. What is not there becomes
 * `otherwise` (NULL: stays undefined) on each step. */
jt_jval jt_jpath(jt_jrun *run, jt_jval of, jt_jval path, const jt_jval *otherwise);
const char *jt_jkind_name(jt_jval v); /* Python's: "str" */

/* ---- text --------------------------------------------------------------------------
 */

void jt_jwrite(jt_jrun *run, jt_jtext *to, const char *data, size_t len);
void jt_jwrite_str(jt_jrun *run, jt_jtext *to, jt_jval v);  /* str(v) */
void jt_jwrite_repr(jt_jrun *run, jt_jtext *to, jt_jval v); /* repr(v) */
void jt_jwrite_float(jt_jrun *run, jt_jtext *to, double number);
jt_str jt_jshow(jt_jrun *run, jt_jval v); /* str(v) */
static inline jt_jval jt_jtext_value(const jt_jtext *text)
{
    return jt_jstring((jt_str){text->len ? text->data : "", text->len});
}
typedef struct jt_jjson {
    bool ascii, sort_keys;
    int indent; /* -1: one line */
    jt_str item_separator, key_separator;
} jt_jjson;
void jt_jwrite_json(jt_jrun *run, jt_jtext *to, jt_jval v, const jt_jjson *how,
                    int level);

/* Characters: length, and the byte where character `i` begins (the end when there are
 * fewer). Bytes that are not UTF-8 count one by one. */
size_t jt_jchars(jt_str text);
size_t jt_jchar_at(jt_str text, size_t i);
/* The character at the start (its bytes into *len); U+FFFD for a stray byte. */
int32_t jt_jdecode(jt_str text, size_t *len);
void jt_jwrite_char(jt_jrun *run, jt_jtext *to, int32_t c);
bool jt_jis_space(int32_t c); /* as Python's str.isspace */
jt_str jt_jstrip(jt_str text, bool left, bool right, const jt_str *chars);

#endif
