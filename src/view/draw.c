/* draw.c - pictures: what is checked before any drawing. */
#include "draw.h"

#include <math.h>

#include "shared/ending.h"

/* Files named picture*.c are there or not; this one always is. */
bool clattn_view_has_pictures(void) {
#ifdef VIEW_PICTURES
  return true;
#else
  return false;
#endif
}

clattn_status clattn_view_picture(const clattn_attention *attention,
                                  const clattn_view_options *options,
                                  const clattn_view_picture_options *picture,
                                  const char *path) {
  clattn_view_picture_options defaults;
  clattn_view_picture_options_init(&defaults);
  if (picture == NULL) picture = &defaults;
  VIEW_REQUIRE_STRUCT(picture, clattn_view_picture_options);
  VIEW_REQUIRE(
      isfinite(picture->scale) && picture->scale >= 0.1 && picture->scale <= 20,
      "picture->scale: got %g, want 0.1..20", picture->scale);
  VIEW_REQUIRE(path != NULL && path[0] != '\0',
               "path: got %s, want the name of a file",
               path == NULL ? "NULL" : "\"\"");
  VIEW_REQUIRE(clt_ends_in(path, ".svg") || clt_ends_in(path, ".png"),
               "path: got %s, want a name that ends in .png or .svg", path);
  view_selection selection;
  VIEW_TRY(view_select(attention, options, &selection));
  VIEW_REQUIRE(selection.kind != CLATTN_VIEW_TABLE,
               "options->kind: got TABLE, which is text alone, want HEAD, GRID "
               "or TOKEN");
#ifdef VIEW_PICTURES
  return view_picture_draw(&selection, picture, path);
#else
  return clattn_set_error(CLATTN_UNSUPPORTED,
                          "%s: this library was built without cairo and Pango, "
                          "which draw pictures",
                          path);
#endif
}
