/* Folders of mixtures whose router is a softmax. */
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
        HF_FOLDER("mixtral", check),
        HF_FOLDER("qwen2moe", check),
        HF_FOLDER("qwen3moe", check),
        HF_FOLDER("olmoe", check),
        HF_FOLDER("deepseek", check),
        HF_FOLDER("deepseek2", check),
        HF_FOLDER("deepseek2-lite", check),
        HF_FOLDER("gpt-oss", check),
        HF_FOLDER("hunyuan-moe", check),
        HF_FOLDER("granitemoe", check),
        HF_FOLDER("granitemoe-shared", check),
        HF_FOLDER("bailingmoe", check),
        HF_FOLDER("gemma4-moe", check),
        HF_FOLDER("dbrx", check),
        HF_FOLDER("grok", check),
        HF_FOLDER("grok2", check),
        HF_FOLDER("arctic", check),
        HF_FOLDER("pangu-pro-moe", check),
        HF_FOLDER("ernie4_5-moe", check_predicting),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
