/* The order in which planes of experts are loaded while others are computed, in
 * simulation (D2MoE, section 4.3: hottest-expert-bit-first). */
#ifndef JT_STORE_PLANES_H
#define JT_STORE_PLANES_H

/* A plane of an expert: loaded, then computed for the tokens that use it. */
typedef struct jt_plane_item {
    int expert, plane;
    int uses;             /* tokens: no more than of the plane before */
    double load, compute; /* seconds */
} jt_plane_item;

/* The time until all are computed, in this order: loads one after the other, computing
 * one after the other, each when its load is complete. */
double jt_planes_makespan(const jt_plane_item *items, int n);

/* From the order of experts and their planes: the most used first, planes of an expert
 * staying in order. */
void jt_planes_hottest_first(jt_plane_item *items, int n);

/* Whole experts: all planes of one become an item. The number of items. */
int jt_planes_join(jt_plane_item *items, int n);

#endif
