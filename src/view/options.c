/* options.c - the defaults of clattn_view.h. */
#include "clattn_view.h"

void clattn_view_options_init(clattn_view_options *options) {
  if (options == NULL) return;
  *options = (clattn_view_options){
      .struct_size = sizeof *options, .layer = -1, .head = -1, .row = -1};
}

void clattn_view_terminal_init(clattn_view_terminal *terminal) {
  if (terminal == NULL) return;
  *terminal = (clattn_view_terminal){.struct_size = sizeof *terminal,
                                     .style = CLATTN_KIT_SHADES,
                                     .columns = 80};
}

void clattn_view_picture_options_init(clattn_view_picture_options *options) {
  if (options == NULL) return;
  *options =
      (clattn_view_picture_options){.struct_size = sizeof *options, .scale = 2};
}

void clattn_view_html_options_init(clattn_view_html_options *options) {
  if (options == NULL) return;
  *options = (clattn_view_html_options){.struct_size = sizeof *options};
}
