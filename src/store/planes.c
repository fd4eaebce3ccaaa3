#include "store/planes.h"

#include <math.h>
#include <string.h>

double jt_planes_makespan(const jt_plane_item *items, int n)
{
    double loaded = 0.0, computed = 0.0;
    for (int i = 0; i < n; i++) {
        loaded += items[i].load;
        computed = fmax(computed, loaded) + items[i].compute;
    }
    return computed;
}

/* May `a` go before `b`, which stands before it? */
static int overtakes(const jt_plane_item *a, const jt_plane_item *b)
{
    return a->expert != b->expert && a->uses > b->uses;
}

void jt_planes_hottest_first(jt_plane_item *items, int n)
{
    for (int i = 1; i < n; i++) {
        jt_plane_item item = items[i];
        int at = i;
        for (; at > 0 && overtakes(&item, &items[at - 1]); at--)
            items[at] = items[at - 1];
        items[at] = item;
    }
}

int jt_planes_join(jt_plane_item *items, int n)
{
    int joined = 0;
    for (int i = 0; i < n; i++) {
        if (joined && items[joined - 1].expert == items[i].expert) {
            items[joined - 1].load += items[i].load;
            items[joined - 1].compute += items[i].compute;
        } else {
            items[joined++] = items[i];
        }
    }
    return joined;
}
