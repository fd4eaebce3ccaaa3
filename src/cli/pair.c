#include "pair.h"

#include <stdlib.h>
#include <string.h>

static jt_status check_tokens(const cli_pair *pair, size_t len, jt_err *err)
{
    jt_tokens other = {0};
    JT_TRY(jt_encode(pair->b.tokenizer, pair->text, len, JT_ENCODE_ADD_SPECIAL, &other,
                     err));
    bool same = other.count == pair->tokens.count &&
                !memcmp(other.ids, pair->tokens.ids, other.count * sizeof *other.ids);
    free(other.ids);
    return same ? JT_OK
                : jt_fail(err, JT_E_ARG, "the models cut the text into other tokens");
}

jt_status cli_pair_open(cli_pair *pair, const char *a, const char *b, const char *file,
                        jt_err *err)
{
    size_t len;
    *pair = (cli_pair){0};
    JT_TRY(cli_load(&pair->a, a, true, err));
    JT_TRY(cli_load(&pair->b, b, false, err));
    JT_TRY(cli_read_text(&pair->text, &len, file, err));
    JT_TRY(jt_encode(pair->a.tokenizer, pair->text, len, JT_ENCODE_ADD_SPECIAL,
                     &pair->tokens, err));
    return pair->b.tokenizer ? check_tokens(pair, len, err) : JT_OK;
}

void cli_pair_close(cli_pair *pair)
{
    free(pair->tokens.ids);
    free(pair->text);
    cli_unload(&pair->a);
    cli_unload(&pair->b);
}

jt_status cli_pair_compare(cli_context *cli, const cli_pair *pair,
                           const jt_session_options *options, int n_ctx, size_t n_flips,
                           jt_comparison *out, jt_err *err)
{
    jt_session *a = NULL, *b = NULL;
    jt_session_options wanted = *options;
    wanted.n_ctx = n_ctx;
    jt_status status = cli_new_session(&a, &pair->a, &wanted, "--ctx", err);
    if (status == JT_OK)
        status = cli_new_session(&b, &pair->b, &wanted, "--ctx", err);
    if (status == JT_OK)
        status = jt_compare_models(a, b, pair->tokens.ids, pair->tokens.count, n_ctx,
                                   n_flips, cli_progress(cli), out, err);
    cli_progress_clear(cli);
    jt_session_free(a);
    jt_session_free(b);
    return status;
}
