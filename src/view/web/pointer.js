// pointer.js - mouse, touch and pen on an element, as gestures; and scroll
// bars.
'use strict';

// Tells a view what pointers do. Places are relative to the element.
//
//   hover(x, y, event)      a mouse or pen moves and presses nothing
//   leave()
//   tap(x, y, event)        pressed and let go in one place
//   grab(x, y)              pressed; what it returns goes to drag
//   drag(dx, dy, x, y, grabbed)   moved since the last call
//   wheel(x, y, dx, dy, event)    true: it was used, the page does not scroll
//   pinch(x, y, factor)     two fingers
class Pointer {
  constructor(element, hears) {
    this.element = element;
    this.hears = hears;
    this.down = new Map();  // pointers that press: id -> {x, y}
    this.moved = false;
    this.grabbed = undefined;
    const listen = (name, f) => element.addEventListener(name, f.bind(this));
    listen('pointerdown', this.onDown);
    listen('pointermove', this.onMove);
    listen('pointerup', this.onUp);
    listen('pointercancel', this.onCancel);
    listen('pointerleave', this.onLeave);
    element.addEventListener('wheel', (e) => this.onWheel(e), {passive: false});
  }

  place(event) {
    const box = this.element.getBoundingClientRect();
    return {x: event.clientX - box.left, y: event.clientY - box.top};
  }

  onDown(event) {
    if (event.button !== 0) {
      return;
    }
    const at = this.place(event);
    this.down.set(event.pointerId, at);
    this.element.setPointerCapture(event.pointerId);
    this.moved = this.down.size > 1;
    this.from = at;
    if (this.down.size === 1) {
      this.grabbed = this.hears.grab(at.x, at.y);
    }
  }

  onMove(event) {
    const at = this.place(event);
    const before = this.down.get(event.pointerId);
    if (!before) {
      this.hears.hover(at.x, at.y, event);
    } else if (this.down.size > 1) {
      this.onPinch(event.pointerId, before, at);
    } else if (this.moved || this.isFar(at, event)) {
      this.moved = true;
      this.down.set(event.pointerId, at);
      this.hears.drag(at.x - before.x, at.y - before.y, at.x, at.y,
        this.grabbed);
    }
  }

  // A finger shakes more than a mouse; less than this is a tap.
  isFar(at, event) {
    const far = event.pointerType === 'mouse' ? 3 : 8;
    return Math.hypot(at.x - this.from.x, at.y - this.from.y) > far;
  }

  onPinch(id, before, at) {
    const [other] = [...this.down.keys()].filter((key) => key !== id);
    const rest = this.down.get(other);
    const was = Math.hypot(before.x - rest.x, before.y - rest.y);
    const is = Math.hypot(at.x - rest.x, at.y - rest.y);
    this.down.set(id, at);
    const x = (at.x + rest.x) / 2;
    const y = (at.y + rest.y) / 2;
    if (was > 8 && is > 8 && this.hears.pinch) {
      this.hears.pinch(x, y, is / was);
    }
    // Half of what one of two fingers moved is what their middle did.
    this.hears.drag((at.x - before.x) / 2, (at.y - before.y) / 2, x, y,
      undefined);
  }

  onUp(event) {
    const known = this.down.delete(event.pointerId);
    if (known && !this.moved && this.down.size === 0) {
      const at = this.place(event);
      this.hears.hover(at.x, at.y, event);
      this.hears.tap(at.x, at.y, event);
    }
  }

  onCancel(event) {
    this.down.delete(event.pointerId);
  }

  // A finger that is lifted leaves too, but what it tapped shall stay.
  onLeave(event) {
    if (event.pointerType !== 'touch' && this.down.size === 0) {
      this.hears.leave();
    }
  }

  onWheel(event) {
    const at = this.place(event);
    // Lines and pages, where a browser counts in those.
    const unit = [1, 16, 400][event.deltaMode] || 1;
    if (this.hears.wheel(at.x, at.y, event.deltaX * unit, event.deltaY * unit,
      event)) {
      event.preventDefault();
    }
  }
}

// A scroll bar: `offset` of `content` pixels are before the `view` that is
// seen.
class ScrollBar {
  constructor(upright) {
    this.upright = upright;
    this.offset = 0;
    this.content = 0;
    this.view = 0;
  }

  // Where it is drawn, and what it is about.
  place(x, y, length, view, content) {
    Object.assign(this, {x, y, length, view, content});
    this.moveTo(this.offset);
  }

  get needed() {
    return this.content > this.view + 0.5;
  }

  // Whether that changed anything.
  moveTo(offset) {
    const before = this.offset;
    this.offset = Math.max(0, Math.min(offset, this.content - this.view));
    return this.offset !== before;
  }

  moveBy(delta) {
    return this.moveTo(this.offset + delta);
  }

  // So that from .. to of the content is seen.
  reveal(from, to) {
    if (from < this.offset) {
      this.moveTo(from);
    } else if (to > this.offset + this.view) {
      this.moveTo(to - this.view);
    }
  }

  get thumb() {
    const size = Math.max(24, this.length * this.view / this.content);
    const room = this.length - size;
    return {size, room,
      from: room * this.offset / Math.max(1, this.content - this.view)};
  }

  // Saved pictures cannot be scrolled.
  paint(pen, theme) {
    if (!this.needed || pen instanceof SvgPen) {
      return;
    }
    const {size, from} = this.thumb;
    const wide = ScrollBar.WIDTH;
    if (this.upright) {
      pen.rect(this.x, this.y, wide, this.length, theme.faint, 0.4);
      pen.rect(this.x + 1, this.y + from, wide - 2, size, theme.muted, 0.7);
    } else {
      pen.rect(this.x, this.y, this.length, wide, theme.faint, 0.4);
      pen.rect(this.x + from, this.y + 1, size, wide - 2, theme.muted, 0.7);
    }
  }

  // A little more than what is drawn, for fingers.
  contains(x, y) {
    if (!this.needed) {
      return false;
    }
    const [along, across] = this.upright ? [y - this.y, x - this.x] :
      [x - this.x, y - this.y];
    return along >= 0 && along < this.length && across >= -3 &&
      across < ScrollBar.WIDTH + 4;
  }

  // Hears the keys that scroll, where the element has the focus.
  listen(element, moved) {
    element.addEventListener('keydown', (event) => {
      const to = {PageUp: this.offset - 0.9 * this.view,
        PageDown: this.offset + 0.9 * this.view, Home: 0,
        End: this.content}[event.key];
      if (event.target === element && this.needed && to !== undefined) {
        event.preventDefault();
        this.moveTo(to);
        moved();
      }
    });
  }

  // The thumb moved by that many pixels.
  dragBy(dx, dy) {
    const {room} = this.thumb;
    const delta = this.upright ? dy : dx;
    return this.moveBy(delta * (this.content - this.view) / Math.max(1, room));
  }

  // A press beside the thumb brings it there.
  press(x, y) {
    const at = this.upright ? y - this.y : x - this.x;
    const {size, room, from} = this.thumb;
    if (at < from || at > from + size) {
      this.moveTo((at - size / 2) / Math.max(1, room) *
        (this.content - this.view));
    }
  }
}

ScrollBar.WIDTH = 9;
