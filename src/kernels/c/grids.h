/* The grids of the IQ formats: what an index of a block stands for. A point of eight
 * values is given by eight codes 0..2, one of four values by four codes 0..7. The codes
 * of its even values fill the low byte, those of its odd values the high byte, so that
 * a few shifts bring each to a byte of its own. Each grid ends in a 0 beyond its
 * points: vector code reads two at a time. */
#ifndef JT_GRIDS_H
#define JT_GRIDS_H

#include <stdint.h>

extern const uint16_t jt_grid_iq2_xxs[256 + 1], jt_grid_iq2_xs[512 + 1];
extern const uint16_t jt_grid_iq2_s[1024 + 1], jt_grid_iq1[2048 + 1];
extern const uint16_t jt_grid_iq3_xxs[256 + 1], jt_grid_iq3_s[512 + 1];

#endif
