/* BIP by itself: a router whose experts are unevenly liked, six batches. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#include <cmocka.h>

#include "base/random.h"
#include "learn/balance_impl.h"

enum { MAX_TOKENS = 1024, MAX_EXPERTS = 64, BATCHES = 6 };

static float scores[MAX_TOKENS * MAX_EXPERTS];
static float room[4 * MAX_TOKENS];

/* Softmax of Gaussian logits, `skew` times a fixed Gaussian bias of each expert on
 * them. */
static void draw_batch(jt_rng *rng, size_t n, size_t m, float skew)
{
    jt_rng of_experts = {.seed = 4};
    float bias[MAX_EXPERTS];
    jt_rng_normals(&of_experts, bias, m);
    jt_rng_normals(rng, scores, n * m);
    for (size_t t = 0; t < n; t++) {
        float sum = 0.0f, *row = scores + t * m;
        for (size_t i = 0; i < m; i++) {
            row[i] = expf(row[i] + skew * bias[i]);
            sum += row[i];
        }
        for (size_t i = 0; i < m; i++)
            row[i] /= sum;
    }
}

/* The largest load over the mean, less 1, when each token takes the top k of s - q. */
static double violation(const float *q, size_t n, size_t m, size_t k)
{
    size_t loads[MAX_EXPERTS] = {0}, most = 0;
    for (size_t t = 0; t < n; t++) {
        const float *s = scores + t * m;
        bool used[MAX_EXPERTS] = {false};
        for (size_t j = 0; j < k; j++) {
            size_t best = m;
            for (size_t i = 0; i < m; i++) {
                if (!used[i] && (best == m || s[i] - q[i] > s[best] - q[best]))
                    best = i;
            }
            used[best] = true;
            loads[best]++;
        }
    }
    for (size_t i = 0; i < m; i++)
        most = loads[i] > most ? loads[i] : most;
    return (double)most * (double)m / (double)(n * k) - 1.0;
}

/* Mean and first violation over the batches, prices kept from batch to batch. */
static double run(size_t m, size_t k, int rounds, double *first)
{
    jt_rng rng = {.seed = 6};
    float q[MAX_EXPERTS] = {0};
    double sum = 0.0;
    for (int b = 0; b < BATCHES; b++) {
        draw_batch(&rng, MAX_TOKENS, m, 1.0f);
        jt_bip_rounds(q, scores, MAX_TOKENS, m, k, rounds, room);
        double v = violation(q, MAX_TOKENS, m, k);
        if (b == 0)
            *first = v;
        sum += v / BATCHES;
    }
    return sum;
}

/* Orders of magnitude of the paper's setting: 2 to 6 without prices; a cold start needs
 * 4 to 8 rounds, kept prices fewer. */
static void few_rounds_balance(void **state)
{
    (void)state;
    static const struct {
        int rounds;
        double mean16, first16, mean64, first64; /* at most */
    } limit[] = {{1, 0.4, 0.8, 0.6, 1.1},
                 {2, 0.25, 0.5, 0.4, 0.7},
                 {4, 0.15, 0.3, 0.2, 0.45},
                 {8, 0.15, 0.15, 0.2, 0.3}};
    double first;
    assert_true(run(16, 4, 0, &first) > 1.5);
    assert_true(run(64, 8, 0, &first) > 3.0);
    for (size_t i = 0; i < sizeof limit / sizeof *limit; i++) {
        assert_true(run(16, 4, limit[i].rounds, &first) < limit[i].mean16);
        assert_true(first < limit[i].first16);
        assert_true(run(64, 8, limit[i].rounds, &first) < limit[i].mean64);
        assert_true(first < limit[i].first64);
    }
}

/* ---- the linear program ---- */

enum { N = 128, M = 16, PICKS = 4, ROOM = PICKS * N / M };

/* The dual with the best p for q: c sum q + sum of the k largest max(0, s - q). */
static double dual(const float *q)
{
    double value = 0.0;
    for (size_t i = 0; i < M; i++)
        value += (double)ROOM * q[i];
    for (size_t t = 0; t < N; t++) {
        bool used[M] = {false};
        for (size_t j = 0; j < PICKS; j++) {
            size_t best = 0;
            double most = 0.0;
            for (size_t i = 0; i < M; i++) {
                double left = (double)scores[t * M + i] - q[i];
                if (!used[i] && left > most) {
                    most = left;
                    best = i;
                }
            }
            used[best] = most > 0.0;
            value += most;
        }
    }
    return value;
}

/* What the best move of a token from expert i to j would add, and which token. */
static void best_moves(bool x[N][M], double gain[M][M], size_t token[M][M])
{
    for (size_t i = 0; i < M; i++) {
        for (size_t j = 0; j < M; j++) {
            gain[i][j] = -INFINITY;
            for (size_t t = 0; t < N; t++) {
                double add = (double)scores[t * M + j] - scores[t * M + i];
                if (x[t][i] && !x[t][j] && add > gain[i][j]) {
                    gain[i][j] = add;
                    token[i][j] = t;
                }
            }
        }
    }
}

/* A ring of moves that adds something: its last expert, and `from` each one; M when
 * there is none (Bellman-Ford). */
static size_t gaining_ring(double gain[M][M], size_t from[M])
{
    double sum[M] = {0};
    size_t moved = M;
    for (size_t round = 0; round <= M; round++) {
        moved = M;
        for (size_t i = 0; i < M; i++) {
            for (size_t j = 0; j < M; j++) {
                if (sum[i] + gain[i][j] > sum[j] + 1e-9) {
                    sum[j] = sum[i] + gain[i][j];
                    from[j] = i;
                    moved = j;
                }
            }
        }
        if (moved == M)
            return M;
    }
    for (size_t i = 0; i < M; i++) /* surely inside the ring */
        moved = from[moved];
    return moved;
}

/* The optimum, by turning rings of moves until none gains: all loads stay full, and
 * the program's solutions are whole numbers. */
static double optimum(void)
{
    static bool x[N][M];
    double gain[M][M], sum = 0.0;
    size_t token[M][M], from[M];
    for (size_t s = 0; s < (size_t)N * PICKS; s++)
        x[s / PICKS][s % M] = true;
    for (;;) {
        best_moves(x, gain, token);
        size_t end = gaining_ring(gain, from), j = end;
        if (end == M)
            break;
        do {
            x[token[from[j]][j]][from[j]] = false;
            x[token[from[j]][j]][j] = true;
            j = from[j];
        } while (j != end);
    }
    for (size_t t = 0; t < N; t++) {
        for (size_t i = 0; i < M; i++)
            sum += x[t][i] ? (double)scores[t * M + i] : 0.0;
    }
    return sum;
}

/* The dual never rises, and comes down to the optimum: within 4 % after one round,
 * 0.04 % after eight. */
static void dual_falls_to_the_optimum(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 9};
    draw_batch(&rng, N, M, 1.0f);
    float q[M] = {0};
    double best = optimum(), before = dual(q), ratio[9] = {before / best};
    for (int round = 1; round <= 200; round++) {
        jt_bip_rounds(q, scores, N, M, PICKS, 1, room);
        double now = dual(q);
        assert_true(now <= before * (1.0 + 1e-6));
        assert_true(now >= best * (1.0 - 1e-6));
        before = now;
        if (round <= 8)
            ratio[round] = now / best;
    }
    assert_true(ratio[0] > 1.1);
    assert_true(ratio[1] < 1.06);
    assert_true(ratio[2] < 1.025);
    assert_true(ratio[4] < 1.01);
    assert_true(ratio[8] < 1.002);
}

/* More room than tokens, k of all experts, one token, equal and broken scores: prices
 * stay finite and not negative. */
static void odd_batches(void **state)
{
    (void)state;
    static const size_t shape[][3] = {{1, 8, 2}, {3, 64, 1}, {5, 4, 4}, {7, 3, 2}};
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
        size_t n = shape[i][0], m = shape[i][1];
        for (int kind = 0; kind < 3; kind++) {
            jt_rng rng = {.seed = 2};
            float q[MAX_EXPERTS] = {0};
            draw_batch(&rng, n, m, 1.0f);
            for (size_t s = 0; s < n * m && kind; s++)
                scores[s] = kind == 1 ? 0.25f : NAN;
            jt_bip_rounds(q, scores, n, m, shape[i][2], 4, room);
            for (size_t e = 0; e < m; e++)
                assert_true(q[e] >= 0.0f && q[e] <= 1.0f);
        }
    }
    float q[4] = {0}; /* every expert has room for all: no price */
    jt_rng rng = {.seed = 3};
    draw_batch(&rng, 5, 4, 1.0f);
    jt_bip_rounds(q, scores, 5, 4, 4, 4, room);
    for (size_t e = 0; e < 4; e++)
        assert_true(q[e] == 0.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_rounds_balance),
        cmocka_unit_test(dual_falls_to_the_optimum),
        cmocka_unit_test(odd_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
