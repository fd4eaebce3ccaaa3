/* Replies in a given form: a grammar, or a JSON schema, says what a text may be, and
 * the sampler draws only tokens with which it can become that.
 *
 *     jt_grammar *grammar;
 *     jt_grammar_new(&grammar, text, len, &err);      // or jt_grammar_of_schema
 *     jt_token_tree_new(&tree, tokenizer, &err);      // once for a vocabulary
 *     jt_constraint_new(&constraint, grammar, tree, &err);
 *     jt_generate(.., &(jt_generate_options){.constraint = constraint, ..}, ..);
 *
 * Grammars are written in GBNF (llama.cpp, grammars/README.md): rules `name ::= ..`, of
 * which `root` is the whole; "literals", [classes] and [^others] of characters, `.` for
 * any; groups ( | ); * + ? {m} {m,} {m,n}; # comments. Not known are tokens in grammars
 * (<[7]>, <think>), and no rule may begin with itself. */
#ifndef JUNTO_GRAMMAR_H
#define JUNTO_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/status.h"
#include "junto/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct jt_grammar jt_grammar;

/* JT_E_FORMAT (with line and column), JT_E_LIMIT (too large, or too deep), JT_E_MEMORY.
 * Never changes after that: threads may share it. */
JT_API jt_status jt_grammar_new(jt_grammar **out, const char *text, size_t len,
                                jt_err *err);
JT_API void jt_grammar_free(jt_grammar *grammar); /* NULL is fine */

/* The grammar of the JSON texts that fit a JSON schema (docs/grammars.md says what of
 * it is known; what is not, and would matter, is JT_E_UNSUPPORTED). Not all such texts:
 * members stand in the order of the schema, white space is short, and an object that
 * names its members has no others, unless the schema says that it may. JT_E_FORMAT (no
 * schema, or one that nothing fits), the errors above. */
JT_API jt_status jt_grammar_of_schema(jt_grammar **out, const char *schema, size_t len,
                                      jt_err *err);
/* The same as a text in GBNF, NUL-terminated, which the caller frees. */
JT_API jt_status jt_schema_to_gbnf(char **out, const char *schema, size_t len,
                                   jt_err *err);

/* Whether a whole text fits. JT_E_LIMIT (there are too many ways to read it),
 * JT_E_MEMORY. */
JT_API jt_status jt_grammar_match(const jt_grammar *grammar, const char *text,
                                  size_t len, bool *fits, jt_err *err);

/* The texts of a vocabulary as a tree, which all constraints on it share. Borrows the
 * tokenizer. JT_E_MEMORY. */
typedef struct jt_token_tree jt_token_tree;
JT_API jt_status jt_token_tree_new(jt_token_tree **out, const jt_tokenizer *tok,
                                   jt_err *err);
JT_API void jt_token_tree_free(jt_token_tree *tree); /* NULL is fine */

/* A grammar on its way through a text. Borrows both; of one thread. JT_E_MEMORY. */
typedef struct jt_constraint jt_constraint;
JT_API jt_status jt_constraint_new(jt_constraint **out, const jt_grammar *grammar,
                                   const jt_token_tree *tree, jt_err *err);
JT_API void jt_constraint_free(jt_constraint *constraint); /* NULL is fine */
/* Back to the beginning of a text. */
JT_API void jt_constraint_reset(jt_constraint *constraint);

/* The tokens that may come next: bit id % 64 of word id / 64, valid until the next
 * call. A token that ends a reply is among them where the text may end. JT_E_LIMIT (the
 * grammar leaves too much open), JT_E_MEMORY. */
JT_API jt_status jt_constraint_mask(jt_constraint *constraint, const uint64_t **mask,
                                    jt_err *err);
/* The text goes on. JT_E_FORMAT: not with this; the errors above. */
JT_API jt_status jt_constraint_accept(jt_constraint *constraint, const char *text,
                                      size_t len, jt_err *err);
/* The text may end here; and nothing can follow. */
JT_API bool jt_constraint_may_end(const jt_constraint *constraint);
JT_API bool jt_constraint_is_over(const jt_constraint *constraint);

#ifdef __cplusplus
}
#endif
#endif
