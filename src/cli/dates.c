/* dates.c - days, and the ways to write them.
 *
 * A way is a template, in which stand
 *
 *     %d 3     %D 03     %o 3rd     %O third
 *     %m 3     %M 03     %b Mar     %B March
 *     %y 98    %Y 1998   %V nineteen ninety-eight
 *     %a Tue   %A Tuesday */
#include "dates.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

const char dates_characters[] =
    " '+,-./0123456789:ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

enum { FIRST_YEAR = 1900, YEARS = 200, SHORT_YEAR = 1950, HOLD_OUT = 10 };

/* With dots and hyphens the day comes first, with slashes the month. */
static const char *const templates[] = {
    "%o of %B %Y",        "%o %B %Y",         "%o %b %y",
    "%d %B %Y",           "%d. %B %Y",        "%d %b %Y",
    "%d %b, %Y",          "%d %b '%y",        "%D-%b-%Y",
    "%D.%M.%Y",           "%d.%m.%Y",         "%D.%M.%y",
    "%B %d, %Y",          "%B %d %Y",         "%B %o, %Y",
    "%B %o %Y",           "%b %d, %Y",        "%b. %d, %Y",
    "%b %d %y",           "%M/%D/%Y",         "%m/%d/%Y",
    "%Y/%M/%D",           "%Y-%M-%D",         "%Y %b %d",
    "%Y, %B %d",          "%a %d %b %y",      "%a, %D %b %Y",
    "%a %d %B %Y",        "%A, %d %B %Y",     "%A, %B %d, %Y",
    "%A the %o of %B %Y", "the %o of %B, %Y", "%B the %O, %Y",
    "the %O of %B, %V",   "%O of %B %V",      "%B %o, %V",
};
enum { TEMPLATES = sizeof templates / sizeof *templates };

/* ---- days ---------------------------------------------------------------- */

typedef struct date {
  int year, month, day; /* month and day from 1 */
  int weekday;          /* 0: Monday */
} date;

static bool is_leap(int year) {
  return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int days_of(int year, int month) {
  static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  return days[month - 1] + (month == 2 && is_leap(year));
}

/* Day `number` from the first of January of FIRST_YEAR, a Monday. */
static date date_of(int number) {
  date d = {.year = FIRST_YEAR, .month = 1, .weekday = number % 7};
  for (; number >= 365 + is_leap(d.year); d.year++)
    number -= 365 + is_leap(d.year);
  for (; number >= days_of(d.year, d.month); d.month++)
    number -= days_of(d.year, d.month);
  d.day = number + 1;
  return d;
}

static int count_days(void) {
  int n = 0;
  for (int y = FIRST_YEAR; y < FIRST_YEAR + YEARS; y++) n += 365 + is_leap(y);
  return n;
}

/* Scattered over all days: the upper bits of a multiplicative hash. */
static bool is_held_out(int number) {
  return ((uint32_t)number * 2654435769u >> 16) % HOLD_OUT == 0;
}

/* ---- words --------------------------------------------------------------- */

static const char *const months[] = {
    "January", "February", "March",     "April",   "May",      "June",
    "July",    "August",   "September", "October", "November", "December"};
static const char *const weekdays[] = {"Monday",   "Tuesday", "Wednesday",
                                       "Thursday", "Friday",  "Saturday",
                                       "Sunday"};
static const char *const units[] = {
    "zero",    "one",     "two",       "three",    "four",
    "five",    "six",     "seven",     "eight",    "nine",
    "ten",     "eleven",  "twelve",    "thirteen", "fourteen",
    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"};
static const char *const tens[] = {"",       "",      "twenty", "thirty",
                                   "forty",  "fifty", "sixty",  "seventy",
                                   "eighty", "ninety"};
static const char *const ordinals[] = {
    "zeroth",    "first",     "second",      "third",      "fourth",
    "fifth",     "sixth",     "seventh",     "eighth",     "ninth",
    "tenth",     "eleventh",  "twelfth",     "thirteenth", "fourteenth",
    "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth"};

enum { WORD_CHARS = 48 };

static void put_number(int n, char word[WORD_CHARS]) {
  if (n < 20)
    snprintf(word, WORD_CHARS, "%s", units[n]);
  else if (n % 10 == 0)
    snprintf(word, WORD_CHARS, "%s", tens[n / 10]);
  else
    snprintf(word, WORD_CHARS, "%s-%s", tens[n / 10], units[n % 10]);
}

static void put_ordinal(int n, char word[WORD_CHARS]) {
  if (n < 20)
    snprintf(word, WORD_CHARS, "%s", ordinals[n]);
  else if (n % 10 == 0)
    snprintf(word, WORD_CHARS, "%s", n == 20 ? "twentieth" : "thirtieth");
  else
    snprintf(word, WORD_CHARS, "%s-%s", tens[n / 10], ordinals[n % 10]);
}

/* As people say it: nineteen oh five, two thousand and five, twenty eighteen. */
static void put_year(int year, char word[WORD_CHARS]) {
  char century[WORD_CHARS], rest[WORD_CHARS];
  put_number(year / 100, century);
  put_number(year % 100, rest);
  if (year / 100 == 20 && year % 100 < 10)
    snprintf(word, WORD_CHARS,
             year % 100 ? "two thousand and %s" : "two thousand", rest);
  else if (year % 100 == 0)
    snprintf(word, WORD_CHARS, "%.20s hundred", century);
  else
    snprintf(word, WORD_CHARS, "%.20s %s%.20s", century,
             year % 100 < 10 ? "oh " : "", rest);
}

static const char *suffix(int day) {
  if (day / 10 == 1) return "th";
  return day % 10 == 1   ? "st"
         : day % 10 == 2 ? "nd"
         : day % 10 == 3 ? "rd"
                         : "th";
}

/* ---- writing ------------------------------------------------------------- */

static void put_part(const date *d, char part, char word[WORD_CHARS]) {
  const char *month = months[d->month - 1], *weekday = weekdays[d->weekday];
  switch (part) {
    case 'd':
      snprintf(word, WORD_CHARS, "%d", d->day);
      break;
    case 'D':
      snprintf(word, WORD_CHARS, "%02d", d->day);
      break;
    case 'o':
      snprintf(word, WORD_CHARS, "%d%s", d->day, suffix(d->day));
      break;
    case 'O':
      put_ordinal(d->day, word);
      break;
    case 'm':
      snprintf(word, WORD_CHARS, "%d", d->month);
      break;
    case 'M':
      snprintf(word, WORD_CHARS, "%02d", d->month);
      break;
    case 'b':
      snprintf(word, WORD_CHARS, "%.3s", month);
      break;
    case 'B':
      snprintf(word, WORD_CHARS, "%s", month);
      break;
    case 'y':
      snprintf(word, WORD_CHARS, "%02d", d->year % 100);
      break;
    case 'Y':
      snprintf(word, WORD_CHARS, "%d", d->year);
      break;
    case 'V':
      put_year(d->year, word);
      break;
    case 'a':
      snprintf(word, WORD_CHARS, "%.3s", weekday);
      break;
    default: /* 'A' */
      snprintf(word, WORD_CHARS, "%s", weekday);
  }
}

/* false if the text does not fit. */
static bool put_date(const date *d, const char *template, char *text) {
  size_t n = 0;
  for (const char *c = template; *c != '\0'; c++) {
    char word[WORD_CHARS] = {*c};
    if (*c == '%') put_part(d, *++c, word);
    const size_t length = strlen(word);
    if (n + length > DATES_SOURCE) return false;
    memcpy(text + n, word, length);
    n += length;
  }
  text[n] = '\0';
  return true;
}

static int below(clattn_kit_rng *rng, int n) {
  return (int)(clattn_kit_rng_u32(rng) % (uint32_t)n);
}

/* Most dates keep their case, some lose it. */
static void change_case(clattn_kit_rng *rng, char *text) {
  const int chance = below(rng, 10);
  for (char *c = text; *c != '\0' && chance < 3; c++)
    *c = (char)(chance == 0 ? toupper((unsigned char)*c)
                            : tolower((unsigned char)*c));
}

void dates_draw(clattn_kit_rng *rng, bool held_out, date_pair *pair) {
  const int days = count_days();
  for (;;) {
    const int number = below(rng, days);
    const char *template = templates[below(rng, TEMPLATES)];
    const date d = date_of(number);
    if (is_held_out(number) != held_out) continue;
    if (strstr(template, "%y") != NULL &&
        (d.year < SHORT_YEAR || d.year >= SHORT_YEAR + 100))
      continue;
    if (!put_date(&d, template, pair->source)) continue;
    change_case(rng, pair->source);
    snprintf(pair->target, sizeof pair->target, "%04u-%02u-%02u",
             (unsigned)d.year % 10000, (unsigned)d.month % 100,
             (unsigned)d.day % 100);
    return;
  }
}
