/* draw.h - pictures, where the library was built with cairo and Pango. */
#ifndef CLATTN_SRC_VIEW_DRAW_H
#define CLATTN_SRC_VIEW_DRAW_H

#include "select.h"

clattn_status view_picture_draw(const view_selection *selection,
                                const clattn_view_picture_options *options,
                                const char *path);

#endif
