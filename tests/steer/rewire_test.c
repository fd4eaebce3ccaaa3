/* Rewiring: its gradient against differences, when it fits, and that it forgets. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "golden.h"
#include "run/session.h"
#include "steer/rewire.h"

enum { TOKENS = 40 };

static int32_t prompt[TOKENS];

static jt_rewire *rewiring(const steered *s)
{
    return s->session->attendant.self;
}

/* Loss at delta[i] + by. */
static double loss_at(jt_rewire *w, jt_session *s, size_t i, float by)
{
    double loss;
    float kept = w->delta[i];
    w->delta[i] += by;
    assert_int_equal(jt_rewire_gradient(w, s, 0, TOKENS, &loss, NULL), JT_OK);
    w->delta[i] = kept;
    return loss;
}

/* Where no token changes its experts: what is measured is a slope. */
static void check_gradient(const char *name, double tolerance)
{
    static const char *const policies[] = {"rewire:precision=f32", NULL};
    jt_model *model = golden_model(name);
    steered s = steer(model, policies, &(jt_session_options){.threads = 2});
    jt_rewire *w = rewiring(&s);
    double loss, seen = 0.0, off = 0.0;
    memcpy(s.session->ids, prompt, sizeof prompt);
    assert_int_equal(jt_rewire_gradient(w, s.session, 0, TOKENS, &loss, NULL), JT_OK);
    size_t n = w->n_layers * w->n_rows, smooth = 0;
    float *grad = malloc(n * sizeof *grad);
    memcpy(grad, w->grad, n * sizeof *grad);
    for (size_t i = 0; i < n; i++) {
        const float h = 2e-3f;
        double right = (loss_at(w, s.session, i, h) - loss) / (double)h;
        double left = (loss - loss_at(w, s.session, i, -h)) / (double)h;
        if (fabs(right - left) > 0.02 * (fabs(right) + fabs(left)) + 2e-4)
            continue; /* a token changed its mind */
        double slope = (right + left) / 2;
        smooth++;
        seen += slope * slope;
        off += (slope - (double)grad[i]) * (slope - (double)grad[i]);
    }
    if (smooth < n / 3 || seen < 1e-9 || sqrt(off / seen) > tolerance)
        fail_msg("%s: %zu of %zu smooth, size %g, off by %g", name, smooth, n,
                 sqrt(seen), sqrt(off / seen));
    free(grad);
    unsteer(&s);
    jt_model_free(model);
}

static void the_gradient_is_that_of_the_loss(void **state)
{
    (void)state;
    check_gradient("mixtral", 0.02);
    check_gradient("olmoe", 0.02);
}

static void fitting_lowers_the_loss(void **state)
{
    (void)state;
    static const char *const policies[] = {"rewire:lr=0.02,share=1,steps=8", NULL};
    jt_model *model = golden_model("mixtral");
    steered s = steer(model, policies, NULL);
    jt_rewire *w = rewiring(&s);
    double before, after;
    memcpy(s.session->ids, prompt, sizeof prompt);
    assert_int_equal(jt_rewire_gradient(w, s.session, 0, TOKENS, &before, NULL), JT_OK);
    assert_int_equal(jt_rewire_fit(w, s.session, TOKENS, NULL), JT_OK);
    assert_int_equal(jt_rewire_gradient(w, s.session, 0, TOKENS, &after, NULL), JT_OK);
    assert_true(after < before);
    unsteer(&s);
    jt_model_free(model);
}

static jt_status count_rows(void *user, size_t first, const float *logits, size_t rows,
                            jt_err *err)
{
    (void)first, (void)logits, (void)err;
    *(size_t *)user += rows;
    return JT_OK;
}

/* Evaluate, heard or not, in calls of `step`; logits at the end [vocab]. */
static float *run(const jt_model *model, const char *policy, int chunk, int threads,
                  size_t step, bool heard, uint64_t *fits)
{
    const char *const policies[] = {policy, NULL};
    jt_session_options options = {.n_ctx = 64, .chunk = chunk, .threads = threads};
    jt_model_info info;
    jt_model_describe(model, &info);
    size_t vocab = (size_t)info.n_vocab, rows = 0;
    steered s = steer(model, policies, &options);
    jt_eval_options eval = {.on_logits = heard ? count_rows : NULL, .user = &rows};
    for (size_t i = 0; i < TOKENS; i += step) {
        size_t n = step < TOKENS - i ? step : TOKENS - i;
        assert_int_equal(jt_session_eval(s.session, prompt + i, n, &eval, NULL), JT_OK);
    }
    assert_int_equal(rows, heard ? TOKENS : 0);
    *fits = rewiring(&s)->fits;
    float *logits = malloc(vocab * sizeof *logits);
    memcpy(logits, jt_session_logits(s.session), vocab * sizeof *logits);
    unsteer(&s);
    return logits;
}

static void fits_come_when_they_are_due(void **state)
{
    (void)state;
    static const char policy[] = "rewire:prompt=16,every=10,steps=2";
    static const struct {
        int chunk, threads;
        size_t step;
        bool heard;
    } ways[] = {{0, 1, TOKENS, true},
                {3, 2, TOKENS, true},
                {0, 2, 1, false},
                {0, 1, 1, true},
                {4, 1, 7, true}};
    jt_model *model = golden_model("mixtral");
    jt_model_info info;
    jt_model_describe(model, &info);
    size_t bytes = (size_t)info.n_vocab * sizeof(float);
    uint64_t fits;
    float *first = NULL;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        float *logits = run(model, policy, ways[i].chunk, ways[i].threads, ways[i].step,
                            ways[i].heard, &fits);
        assert_int_equal(fits, 3); /* at 16, 26 and 36 */
        if (first)
            assert_memory_equal(first, logits, bytes);
        else
            first = logits;
        if (first != logits)
            free(logits);
    }
    /* a prompt that nobody hears is fitted to once, as a whole */
    float *whole = run(model, "rewire", 0, 1, TOKENS, false, &fits);
    assert_int_equal(fits, 1);
    free(whole);
    free(first);
    jt_model_free(model);
}

static void a_new_text_begins_without(void **state)
{
    (void)state;
    static const char *const policies[] = {"rewire:prompt=8,every=8,lr=0.1", NULL};
    jt_model *model = golden_model("mixtral");
    jt_session *plain;
    steered s = steer(model, policies, &(jt_session_options){.n_ctx = 64});
    jt_model_info info;
    jt_model_describe(model, &info);
    size_t bytes = (size_t)info.n_vocab * sizeof(float);
    assert_int_equal(jt_session_eval(s.session, prompt, 20, NULL, NULL), JT_OK);
    assert_true(rewiring(&s)->fits > 0);
    jt_session_truncate(s.session, 5);
    assert_int_equal(jt_session_eval(s.session, prompt + 5, 2, NULL, NULL), JT_OK);
    assert_int_equal(jt_session_new(&plain, model, NULL, NULL), JT_OK);
    assert_int_equal(jt_session_eval(plain, prompt, 7, NULL, NULL), JT_OK);
    assert_memory_equal(jt_session_logits(s.session), jt_session_logits(plain), bytes);
    jt_session_free(plain);
    unsteer(&s);
    jt_model_free(model);
}

static void only_chosen_layers_move(void **state)
{
    (void)state;
    static const char *const policies[] = {"rewire:share=0.5,steps=1", NULL};
    jt_model *model = golden_model("mixtral");
    steered s = steer(model, policies, NULL);
    jt_rewire *w = rewiring(&s);
    memcpy(s.session->ids, prompt, sizeof prompt);
    assert_int_equal(jt_rewire_fit(w, s.session, TOKENS, NULL), JT_OK);
    size_t top = w->confidence[0] > w->confidence[1] ? 0 : 1;
    for (size_t e = 0; e < w->n_rows; e++)
        assert_true(w->delta[(1 - top) * w->n_rows + e] == 0.0f);
    double moved = 0.0;
    for (size_t e = 0; e < w->n_rows; e++)
        moved += fabs((double)w->delta[top * w->n_rows + e]);
    assert_true(moved > 0.0);
    unsteer(&s);
    jt_model_free(model);
}

static void without_memory_the_context_is_as_before(void **state)
{
    (void)state;
    static const char *const policies[] = {"rewire", NULL};
    jt_model *model = golden_model("mixtral");
    steered s = steer(model, policies, &(jt_session_options){.n_ctx = 64});
    jt_status status = JT_E_MEMORY;
    for (long n = 0; status != JT_OK; n++) {
        jt_fault_after(n);
        status = jt_session_eval(s.session, prompt, TOKENS, NULL, NULL);
        jt_fault_after(-1);
        assert_true(status == JT_OK || status == JT_E_MEMORY);
        assert_int_equal(jt_session_length(s.session), status == JT_OK ? TOKENS : 0);
    }
    unsteer(&s);
    jt_model_free(model);
}

static int setup(void **state)
{
    (void)state;
    for (int i = 0; i < TOKENS; i++)
        prompt[i] = (i * i * 7 + i * 37 + 11) % 40;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_gradient_is_that_of_the_loss),
        cmocka_unit_test(fitting_lowers_the_loss),
        cmocka_unit_test(fits_come_when_they_are_due),
        cmocka_unit_test(a_new_text_begins_without),
        cmocka_unit_test(only_chosen_layers_move),
        cmocka_unit_test(without_memory_the_context_is_as_before),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
