/* The choice of a kernel table: by name, by JUNTO_CPU, the best one. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"

static const char *const names[JT_CPU_COUNT] = {"scalar", "avx2", "avx512", "neon",
                                                "dotprod"};

static void test_names(void **state)
{
    (void)state;
    jt_err err = {0};
    const jt_kernels *k = NULL;
    for (int i = 0; i < JT_CPU_COUNT; i++) {
        const jt_kernels *level = jt_kernels_level((jt_cpu_level)i);
        if (level) {
            assert_int_equal(jt_kernels_choose(&k, names[i], &err), JT_OK);
            assert_ptr_equal(k, level);
            assert_string_equal(k->name, names[i]);
        } else {
            assert_int_equal(jt_kernels_choose(&k, names[i], &err), JT_E_UNSUPPORTED);
            assert_non_null(strstr(err.msg, names[i]));
        }
    }
    assert_int_equal(jt_kernels_choose(&k, "sse9", &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "sse9"));
}

static void test_environment(void **state)
{
    (void)state;
    jt_err err = {0};
    const jt_kernels *k = NULL, *best = NULL;
    unsetenv("JUNTO_CPU");
    assert_int_equal(jt_kernels_choose(&best, NULL, &err), JT_OK);
    for (int i = 0; i < JT_CPU_COUNT; i++)
        if (jt_kernels_level((jt_cpu_level)i))
            k = jt_kernels_level((jt_cpu_level)i);
    assert_ptr_equal(best, k);

    setenv("JUNTO_CPU", "scalar", 1);
    assert_int_equal(jt_kernels_choose(&k, NULL, &err), JT_OK);
    assert_string_equal(k->name, "scalar");
    setenv("JUNTO_CPU", "", 1);
    assert_int_equal(jt_kernels_choose(&k, NULL, &err), JT_OK);
    assert_ptr_equal(k, best);
    setenv("JUNTO_CPU", "pentium", 1);
    assert_int_equal(jt_kernels_choose(&k, NULL, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "pentium"));
    assert_int_equal(jt_kernels_choose(&k, "scalar", &err), JT_OK); /* the name wins */
    unsetenv("JUNTO_CPU");
}

static void test_complete(void **state)
{
    (void)state;
    for (int i = 0; i < JT_CPU_COUNT; i++) {
        const jt_kernels *k = jt_kernels_level((jt_cpu_level)i);
        if (!k)
            continue;
        for (int dtype = 0; dtype < JT_DTYPE_COUNT; dtype++) {
            assert_non_null(k->dequant[dtype]);
            assert_int_equal(k->matmul[dtype].fn == NULL, dtype >= JT_F64);
        }
        for (int act = 0; act < JT_ACT_COUNT; act++)
            assert_non_null(k->pack[act]);
        assert_true(k->f32_to_f16 && k->add && k->axpy && k->scale && k->rms_norm);
        assert_true(k->glu && k->softcap && k->softmax && k->rope && k->attention);
        assert_true(k->gemm && k->dot && k->rms_norm_back && k->glu_back);
        assert_true(k->softmax_back && k->attention_back);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
