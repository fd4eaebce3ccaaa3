/* The grids of the IQ formats: what an index of a block stands for. Points of eight
 * values are given by codes 0..2, nibble by nibble: byte i of a word holds the code of
 * value i low and that of value i + 4 high. Points of four are given by the sizes of
 * their values, value i in byte i. */
#ifndef JT_GRIDS_H
#define JT_GRIDS_H

#include <stdint.h>

extern const uint32_t jt_grid_iq2_xxs[256], jt_grid_iq2_xs[512], jt_grid_iq2_s[1024];
extern const uint32_t jt_grid_iq1[2048];
extern const uint32_t jt_grid_iq3_xxs[256], jt_grid_iq3_s[512];

#endif
