/* Roles, mixes and rules. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/memory.h"
#include "shrink/mix.h"
#include "shrink/rules.h"

static void test_roles(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int n_dims;
        jt_role role;
    } cases[] = {
        {"token_embd.weight", 2, JT_ROLE_EMBEDDING},
        {"output.weight", 2, JT_ROLE_OUTPUT},
        {"output_norm.weight", 1, JT_ROLE_PLAIN},
        {"blk.3.attn_q.bias", 1, JT_ROLE_PLAIN},
        {"blk.3.attn_q.weight", 2, JT_ROLE_ATTENTION},
        {"blk.3.attn_v.weight", 2, JT_ROLE_VALUE},
        {"blk.3.ffn_gate_inp.weight", 2, JT_ROLE_PLAIN},
        {"blk.3.ffn_gate_inp_shexp.weight", 2, JT_ROLE_PLAIN},
        {"blk.3.ffn_up_exps.weight", 3, JT_ROLE_EXPERT},
        {"blk.3.ffn_down_exps.weight", 3, JT_ROLE_EXPERT_DOWN},
        {"blk.3.ffn_down_shexp.weight", 2, JT_ROLE_DOWN},
        {"blk.3.ffn_up.weight", 2, JT_ROLE_FFN},
        {"blk.3.ssm_in.weight", 2, JT_ROLE_OTHER},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(jt_mix_role(cases[i].name, cases[i].n_dims), cases[i].role);
}

static double bits(jt_dtype dtype)
{
    return 8.0 * (double)jt_dtype_block_bytes(dtype) /
           (double)jt_dtype_block_values(dtype);
}

/* In a mixture nothing is worse than the routed experts, and every type can be written.
 */
static void test_mixes(void **state)
{
    (void)state;
    for (size_t i = 0; jt_mix_name(i); i++) {
        jt_mix mix;
        assert_int_equal(jt_mix_find(&mix, jt_mix_name(i), NULL), JT_OK);
        assert_non_null(jt_mix_summary(i));
        for (int layer = 0; layer < 16; layer++)
            for (int role = JT_ROLE_EMBEDDING; role <= JT_ROLE_OTHER; role++) {
                jt_mix_place place = {layer, 16, true, false};
                jt_dtype t = jt_mix_choose(&mix, (jt_role)role, &place);
                assert_true(jt_dtype_can_quantize(t) && jt_dtype_is_weight(t));
                assert_true(bits(t) >= bits(mix.bulk));
                place.mixture = false;
                t = jt_mix_choose(&mix, (jt_role)role, &place);
                assert_true(bits(t) >= bits(mix.bulk));
            }
    }
    jt_mix mix;
    jt_err err = {0};
    assert_int_equal(jt_mix_find(&mix, "Q4_K_M", &err), JT_OK);
    assert_int_equal(mix.file_type, 15);
    assert_int_equal(
        jt_mix_choose(&mix, JT_ROLE_ATTENTION, &(jt_mix_place){5, 16, true, false}),
        JT_Q6_K);
    assert_int_equal(
        jt_mix_choose(&mix, JT_ROLE_ATTENTION, &(jt_mix_place){5, 16, false, false}),
        JT_Q4_K);
    assert_int_equal(jt_mix_find(&mix, "q5_k", &err), JT_OK);
    assert_int_equal(mix.side, JT_Q5_K);
    assert_int_equal(jt_mix_find(&mix, "iq1_s", &err), JT_E_ARG);
    assert_int_equal(jt_mix_find(&mix, "q4_k_x", &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "q4_k_m"));
}

static void test_fit(void **state)
{
    (void)state;
    assert_int_equal(jt_mix_fit(JT_Q4_K, 512), JT_Q4_K);
    assert_int_equal(jt_mix_fit(JT_Q4_K, 96), JT_Q5_0);
    assert_int_equal(jt_mix_fit(JT_Q6_K, 96), JT_Q8_0);
    assert_int_equal(jt_mix_fit(JT_IQ2_XXS, 96), JT_IQ4_NL);
    assert_int_equal(jt_mix_fit(JT_Q4_K, 40), JT_F16);
    assert_int_equal(jt_mix_fit(JT_F32, 7), JT_F32);
}

static void test_rules(void **state)
{
    (void)state;
    const char *texts[] = {"blk\\.[0-3]\\.ffn=q8_0", "ffn_down_exps=q5_k", "a=b=f16"};
    jt_rules *rules;
    jt_err err = {0};
    jt_dtype t;
    assert_int_equal(jt_rules_new(&rules, texts, 3, &err), JT_OK);
    assert_true(jt_rules_find(rules, "blk.2.ffn_down_exps.weight", &t));
    assert_int_equal(t, JT_Q8_0);
    assert_true(jt_rules_find(rules, "blk.12.ffn_down_exps.weight", &t));
    assert_int_equal(t, JT_Q5_K);
    assert_true(jt_rules_find(rules, "xa=by", &t));
    assert_int_equal(t, JT_F16);
    assert_false(jt_rules_find(rules, "output.weight", &t));
    jt_rules_free(rules);
    static const char *const wrong[] = {"ffn",       "=q8_0",   "ffn=q9",
                                        "ffn=iq1_s", "ffn=i32", "(=f16"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(jt_rules_new(&rules, &wrong[i], 1, &err), JT_E_ARG);
        assert_non_null(strstr(err.msg, wrong[i]));
    }
    for (long n = 0; n < 2; n++) {
        jt_fault_after(n);
        assert_int_equal(jt_rules_new(&rules, texts, 3, &err), JT_E_MEMORY);
    }
    jt_fault_after(-1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roles),
        cmocka_unit_test(test_mixes),
        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
