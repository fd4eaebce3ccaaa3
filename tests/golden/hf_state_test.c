/* Folders of families with layers that carry a state. */
#include "hf_folder.h"
#include "scratch.h"

static void check(void **state)
{
    hf_check_folder(scratch_dir.dir, *state, HF_ALL);
}

/* Those with layers that predict further tokens, which are passed over. */
static void check_predicting(void **state)
{
    hf_check_folder(scratch_dir.dir, *state, HF_WITHOUT);
}

/* Multipliers do not come out of the matrices again. */
static void check_multiplied(void **state)
{
    hf_check_folder(scratch_dir.dir, *state, HF_OTHER_TYPES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HF_FOLDER("kimi-linear", check),
        HF_FOLDER("minimax-01", check),
        HF_FOLDER("minimax-01-published", check),
        HF_FOLDER("falcon-h1", check_multiplied),
        HF_FOLDER("falcon-h1-tied", check_multiplied),
        HF_FOLDER("jamba", check),
        HF_FOLDER("lfm2", check),
        HF_FOLDER("lfm2moe", check),
        HF_FOLDER("granitehybrid", check),
        HF_FOLDER("granitehybrid-dense", check),
        HF_FOLDER("qwen35", check),
        HF_FOLDER("nemotron_h", check),
        HF_FOLDER("nemotron_h_moe", check),
        HF_FOLDER("qwen3next", check_predicting),
        HF_FOLDER("qwen35moe", check_predicting),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
