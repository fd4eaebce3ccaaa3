/* Folders of mixtures whose router is a sigmoid. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        HF_FOLDER("glm4-flash", check),
        HF_FOLDER("solar-open", check),
        HF_FOLDER("dots1", check),
        HF_FOLDER("afmoe", check),
        HF_FOLDER("exaone-moe", check),
        HF_FOLDER("llama4", check),
        HF_FOLDER("deepseek3", check_predicting),
        HF_FOLDER("glm4moe-norm", check_predicting),
        HF_FOLDER("minimax-m2", check_predicting),
        HF_FOLDER("bailingmoe2", check_predicting),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
