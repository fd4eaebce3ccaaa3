#include <string.h>

#include "bench.h"

static void print_phase(const char *name, const struct bench_phase *phase, int tokens,
                        int repeat)
{
    if (!tokens)
        return;
    printf("  %-8s %10.2f %10.2f %10.2f tokens/s  (min, median, max of %d x %d)\n",
           name, phase->rates[0], bench_median(phase->rates, repeat),
           phase->rates[repeat - 1], repeat, tokens);
    printf("           ");
    double other = phase->seconds;
    for (int s = 0; s < JT_STAGE_COUNT; s++) {
        other -= phase->stages[s];
        if (phase->stages[s] > 0)
            printf(" %s %.0f%%", jt_stage_name((jt_stage)s),
                   100 * phase->stages[s] / phase->seconds);
    }
    printf(" other %.0f%%\n", 100 * (other > 0 ? other / phase->seconds : 0));
}

void bench_print_table(const struct bench_args *args, const cli_model *m,
                       const struct bench_run *runs, size_t count)
{
    printf("%s  %s, %s, %s parameters, %s active\n", m->info.path, m->info.family,
           cli_show_bytes((double)m->info.file_bytes).text,
           cli_show_count((double)m->info.n_params).text,
           cli_show_count((double)m->info.n_active_params).text);
    printf("loaded in %.3f s\n", m->seconds);
    for (size_t i = 0; i < count; i++) {
        const struct bench_run *run = &runs[i];
        printf("\n%d thread%s, %s\n", run->threads, run->threads == 1 ? "" : "s",
               run->cpu);
        bool stored = args->session.store.ram > 0;
        print_phase("prefill", &run->prefill, args->prompt, args->repeat);
        if (stored)
            bench_store_print(&run->prefill, args->prompt, args->repeat);
        print_phase("decode", &run->decode, args->gen, args->repeat);
        if (stored)
            bench_store_print(&run->decode, args->gen, args->repeat);
        if (args->prompt && !stored)
            printf(
                "  peak     %.1f%% (%s operations per prompt token at %.0f G %s/s)\n",
                100 * bench_median(run->prefill.shares, args->repeat),
                cli_show_count(run->token_operations).text,
                bench_median(run->prefill.limits, args->repeat) / 1e9,
                run->int8 ? "int8" : "f32");
        if (args->gen && args->parallel == 1 && !stored)
            printf("  roofline %.1f%% (%s per token at %s/s)\n",
                   100 * bench_median(run->decode.shares, args->repeat),
                   cli_show_bytes(run->bytes_per_token).text,
                   cli_show_bytes(bench_median(run->decode.limits, args->repeat)).text);
        printf("  memory   peak %s, of it keys and values %s\n",
               cli_show_bytes((double)run->peak_bytes).text,
               cli_show_bytes((double)run->kv_bytes).text);
    }
}

static json_t *phase_json(const struct bench_phase *phase,
                          const struct bench_args *args, int tokens)
{
    int repeat = args->repeat;
    if (!tokens)
        return json_null();
    json_t *stages = json_object();
    for (int s = 0; s < JT_STAGE_COUNT; s++)
        json_object_set_new(stages, jt_stage_name((jt_stage)s),
                            cli_json_number(phase->stages[s]));
    json_t *json = json_pack("{s:{s:o, s:o, s:o}, s:f, s:o}", "tokens_per_second",
                             "min", cli_json_number(phase->rates[0]), "median",
                             cli_json_number(bench_median(phase->rates, repeat)), "max",
                             cli_json_number(phase->rates[repeat - 1]), "seconds",
                             phase->seconds, "stage_seconds", stages);
    if (args->session.store.ram)
        json_object_set_new(json, "store", bench_store_json(phase, tokens, repeat));
    return json;
}

/* The median of what is [repeat]; null for a phase that was left out. */
static json_t *median_json(const double *values, bool measured, int repeat)
{
    return measured ? cli_json_number(bench_median(values, repeat)) : json_null();
}

static json_t *run_json(const struct bench_args *args, const struct bench_run *run)
{
    const struct bench_phase *prefill = &run->prefill, *decode = &run->decode;
    int repeat = args->repeat;
    bool streamed = !args->session.store.ram;
    bool alone = args->parallel == 1; /* experts of several sequences overlap */
    return json_pack(
        "{s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:I, s:I}", "threads",
        run->threads, "cpu", run->cpu, "prefill",
        phase_json(&run->prefill, args, args->prompt), "decode",
        phase_json(&run->decode, args, args->gen), "bytes_per_token",
        cli_json_number(run->bytes_per_token), "bandwidth_bytes_per_second",
        median_json(decode->limits, args->gen && streamed, repeat),
        "decode_roofline_share",
        median_json(decode->shares, args->gen && alone && streamed, repeat),
        "peak_kind", run->int8 ? "int8" : "f32", "peak_operations_per_second",
        median_json(prefill->limits, args->prompt && streamed, repeat),
        "prefill_peak_share",
        median_json(prefill->shares, args->prompt && streamed, repeat), "kv_bytes",
        (json_int_t)run->kv_bytes, "peak_bytes", (json_int_t)run->peak_bytes);
}

int bench_print_json(cli_context *cli, const struct bench_args *args,
                     const cli_model *m, uint64_t seed, const struct bench_run *runs,
                     size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, run_json(args, &runs[i]));
    json_t *json = json_pack(
        "{s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:i, s:i, s:i, s:i, s:i, s:I, s:o}",
        "model", cli_json_text(m->info.path, strlen(m->info.path)), "family",
        m->info.family, "file_bytes", (json_int_t)m->info.file_bytes, "params",
        (json_int_t)m->info.n_params, "active_params",
        (json_int_t)m->info.n_active_params, "active_bytes",
        (json_int_t)m->info.active_bytes, "kv_bytes_per_token",
        (json_int_t)m->info.kv_bytes_per_token, "load_seconds", m->seconds, "depth",
        args->depth, "parallel", args->parallel, "prompt", args->prompt, "gen",
        args->gen, "repeat", args->repeat, "seed", (json_int_t)seed, "runs", list);
    return cli_print_json(cli, json);
}
