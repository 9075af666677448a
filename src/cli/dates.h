/* dates.h - a language to translate: dates as people write them, to ISO 8601. */
#ifndef CLATTN_SRC_CLI_DATES_H
#define CLATTN_SRC_CLI_DATES_H

#include "cli.h"

/* Every character that a date may have, and the longest texts. */
extern const char dates_characters[];
enum { DATES_SOURCE = 64, DATES_TARGET = 10 };

typedef struct date_pair {
  char source[DATES_SOURCE + 1]; /* "Tue 3 Mar 98" */
  char target[DATES_TARGET + 1]; /* "1998-03-03" */
} date_pair;

/* A day of 1900..2099 in one of the ways to write it; two digits of a year mean
 * 1950..2049. One day in ten, by its number, is held out: held_out says from
 * which ones to draw, so that what is tested on never was a target in training. */
void dates_draw(clattn_kit_rng *rng, bool held_out, date_pair *pair);

#endif
