#include "adapt/turns.h"

#include <stdlib.h>
#include <string.h>

/* q, k and v; what attention gives; gate and up; down. */
int jt_turn_of(const char *target)
{
    int layer = strncmp(target, "blk.", 4) ? 0 : atoi(target + 4);
    if (strstr(target, "_output"))
        return 4 * layer + 1;
    if (strstr(target, "_down"))
        return 4 * layer + 3;
    return 4 * layer + (strstr(target, "ffn_") ? 2 : 0);
}

static int by_turn(const void *x, const void *y)
{
    const jt_turn *a = x, *b = y;
    if (a->turn != b->turn)
        return a->turn < b->turn ? -1 : 1;
    return (a->i > b->i) - (a->i < b->i);
}

void jt_turns_sort(jt_turn *list, size_t n)
{
    if (n)
        qsort(list, n, sizeof *list, by_turn);
}

size_t jt_turn_end(const jt_turn *list, size_t n, size_t first)
{
    size_t end = first;
    while (end < n && list[end].turn == list[first].turn)
        end++;
    return end;
}
