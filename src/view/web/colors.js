// colors.js - colour maps, colours of heads, and both themes.
//
// Weights are drawn in viridis (data.palette), scores and differences in a map
// that diverges from 0: blue below, orange above, which all common kinds of
// colour blindness tell apart, with a lightness that changes alike on both
// sides.
'use strict';

const Colors = (() => {
  const STEPS = 256;
  let sequentialMap = null;
  const divergingMaps = new Map();

  // Any byte that a colour has: red, green and blue 0..255.
  function byte(x) {
    return Math.max(0, Math.min(255, Math.round(x)));
  }

  function css(rgb) {
    return '#' + rgb.map((x) => byte(x).toString(16).padStart(2, '0')).join('');
  }

  // "#rrggbb" as [r, g, b].
  function parse(text) {
    return [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
  }

  // A map of STEPS colours {css: [STEPS], pixels: Uint32Array [STEPS]}. Pixels
  // are as ImageData has them, so bytes red, green, blue, alpha.
  function makeMap(colorAt) {
    const bytes = new Uint8Array(STEPS * 4);
    const names = [];
    for (let i = 0; i < STEPS; i++) {
      const rgb = colorAt(i / (STEPS - 1)).map(byte);
      bytes.set([rgb[0], rgb[1], rgb[2], 255], i * 4);
      names.push(css(rgb));
    }
    return {css: names, pixels: new Uint32Array(bytes.buffer), images: {}};
  }

  // palette [stops][3]: colours at equal steps.
  function setPalette(palette) {
    const last = palette.length - 1;
    sequentialMap = makeMap((t) => {
      const at = Math.min(t * last, last - 1e-9);
      const low = palette[Math.floor(at)];
      const high = palette[Math.floor(at) + 1];
      const part = at - Math.floor(at);
      return low.map((x, i) => x + (high[i] - x) * part);
    });
  }

  // A colour of OKLCH (Ottosson 2020), in which equal steps of lightness look
  // equal: lightness 0..1, chroma, hue in degrees, as [r, g, b].
  function fromOklch(lightness, chroma, hue) {
    const a = chroma * Math.cos(hue * Math.PI / 180);
    const b = chroma * Math.sin(hue * Math.PI / 180);
    const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
    const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
    const s = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3;
    const linear = [
      4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
      -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
      -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
    ];
    return linear.map((x) => 255 * (x <= 0.0031308 ?
      12.92 * Math.max(0, x) : 1.055 * x ** (1 / 2.4) - 0.055));
  }

  // t 0..1, the middle is the page's own background, nearly.
  function divergingAt(t, dark) {
    const far = Math.abs(2 * t - 1);
    const hue = t < 0.5 ? 250 : 58;
    const lightness = dark ? 0.24 + 0.56 * far : 0.97 - 0.47 * far;
    const chroma = 0.13 * Math.min(1, 1.15 * far);
    return fromOklch(lightness, chroma, hue);
  }

  function diverging(dark) {
    if (!divergingMaps.has(dark)) {
      divergingMaps.set(dark, makeMap((t) => divergingAt(t, dark)));
    }
    return divergingMaps.get(dark);
  }

  function sequential() {
    return sequentialMap;
  }

  // A map as a picture, from left to right or upwards.
  function gradient(map, upright) {
    const {images, pixels} = map;
    if (!images[upright]) {
      images[upright] = upright ?
        Canvas.image(1, STEPS, pixels.slice().reverse()) :
        Canvas.image(STEPS, 1, pixels);
    }
    return images[upright];
  }

  // Colours of heads, after Okabe and Ito's list, lighter on dark.
  const HEADS_LIGHT = ['#0072b2', '#d55e00', '#009e73', '#b5548f', '#c58a00',
    '#3a9bd6', '#6a51a3', '#555555'];
  const HEADS_DARK = ['#4ea8e0', '#f4854a', '#2fc79a', '#df8fbe', '#eab43a',
    '#8fd0f7', '#a995e6', '#bdbdbd'];

  // Beyond the list its colours come again, further towards the ink.
  function head(index, dark) {
    const list = dark ? HEADS_DARK : HEADS_LIGHT;
    const color = list[index % list.length];
    const round = Math.floor(index / list.length) % 3;
    return round === 0 ? color : mix(color, dark ? '#ffffff' : '#000000',
      round * 0.28);
  }

  // "#rrggbb" colours a and b, `part` of b.
  function mix(a, b, part) {
    const to = parse(b);
    return css(parse(a).map((x, i) => x + (to[i] - x) * part));
  }

  // Black or white, what is better read on "#rrggbb".
  function inkOn(color) {
    const [r, g, b] = parse(color).map((x) => (x / 255) ** 2.2);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.36 ? '#000000' : '#ffffff';
  }

  // Whether a state asks for the dark theme, or leaves that to the system.
  function isDark(state) {
    return state.theme === 'auto' ?
      matchMedia('(prefers-color-scheme: dark)').matches :
      state.theme === 'dark';
  }

  // What canvases are drawn with: the properties of the style sheet, in the
  // theme that the page has now.
  function theme() {
    const root = document.documentElement;
    const style = getComputedStyle(root);
    const color = (name) => style.getPropertyValue(name).trim();
    return {dark: root.dataset.theme === 'dark', paper: color('--surface'),
      ink: color('--text'), muted: color('--muted'), faint: color('--line'),
      accent: color('--accent'), onAccent: color('--on-accent'),
      mark: color('--mark')};
  }

  // Colours of -high..high.
  function around(high, dark, root) {
    return {map: diverging(dark), low: -high, high, root};
  }

  // The colours of frames, which have one scale: {map, low, high, root}: values
  // low and high are the map's ends. root: colours go with the square root of
  // what is shown, so that small weights beside a large one are seen too.
  function scale(frames, dark, root) {
    const diverges = frames.some((frame) => frame.what !== 'weight');
    let low = 0;
    let high = 0;
    for (const frame of frames) {
      if (Number.isFinite(frame.low)) {
        low = Math.min(low, frame.low);
      }
      if (Number.isFinite(frame.high)) {
        high = Math.max(high, frame.high);
      }
    }
    if (diverges) {
      return around(Math.max(high, -low) || 1, dark, root);
    }
    return {map: sequential(), low: 0, high: high || 1, root};
  }

  // Where on the scale a value is: 0 at low, 1 at high.
  function place(value, of) {
    const part = value / of.high;
    const shown = of.root ? Math.sign(part) * Math.sqrt(Math.abs(part)) : part;
    return of.low < 0 ? 0.5 + 0.5 * shown : shown;
  }

  // Index into a map of a finite value.
  function step(value, of) {
    const at = Math.round(place(value, of) * (STEPS - 1));
    return Math.max(0, Math.min(STEPS - 1, at));
  }

  return {STEPS, setPalette, sequential, diverging, gradient, head, mix, inkOn,
    isDark, theme, around, scale, place, step};
})();
