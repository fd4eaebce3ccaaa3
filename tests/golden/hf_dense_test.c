/* Folders of dense families. */
#include "hf_folder.h"
#include "scratch.h"

static void check(void **state)
{
    hf_check_folder(scratch_dir.dir, *state, HF_ALL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HF_FOLDER("llama", check),         HF_FOLDER("mistral", check),
        HF_FOLDER("qwen2", check),         HF_FOLDER("qwen3", check),
        HF_FOLDER("gemma", check),         HF_FOLDER("gemma2", check),
        HF_FOLDER("gemma3", check),        HF_FOLDER("gemma4", check),
        HF_FOLDER("gemma4-e2b", check),    HF_FOLDER("olmo", check),
        HF_FOLDER("olmo2", check),         HF_FOLDER("olmo3", check),
        HF_FOLDER("smollm3", check),       HF_FOLDER("phi2", check),
        HF_FOLDER("phi3", check),          HF_FOLDER("glm4", check),
        HF_FOLDER("seed_oss", check),      HF_FOLDER("exaone4", check),
        HF_FOLDER("cohere2", check),       HF_FOLDER("nemotron", check),
        HF_FOLDER("mistral3", check),      HF_FOLDER("ernie4_5", check),
        HF_FOLDER("hunyuan-dense", check), HF_FOLDER("granite", check),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
