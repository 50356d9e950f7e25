/**
 * Lines over the last minutes. Told apart by dashes as well as by colour; under the pointer, or the
 * arrow keys, the figures of one moment. Says in words what it shows to those who do not see it.
 */
import { Component, type ComponentChild, createRef, h } from './preact.js';
import { span } from './words.js';

export interface Series {
  readonly name: string;
  /** null: not known then. */
  readonly values: readonly (number | null)[];
  /** Which of the palette's lines. */
  readonly line: number;
  readonly isFilled?: boolean;
}

export interface ChartProps {
  readonly title: string;
  readonly note: string;
  /** How long ago each value was, ms, oldest first. */
  readonly agoMs: readonly number[];
  readonly windowMs: number;
  /** Of the whole chart, px. */
  readonly height?: number;
  /** Samples farther apart than this are not joined: nothing was heard between. */
  readonly gapMs?: number;
  readonly series: readonly Series[];
  /** Ascending, from the bottom; places and labels. */
  readonly ticks: readonly { readonly value: number; readonly label: string }[];
  /** Where a value stands, 0 (bottom) to 1. */
  readonly scale: (value: number) => number;
  readonly say: (value: number) => string;
  /** From here up it is no longer well. */
  readonly limit?: { readonly value: number; readonly label: string } | undefined;
}

const DEFAULT_HEIGHT = 188;
const LEFT = 52;
const RIGHT = 12;
const TOP = 12;
const BOTTOM = 26;
const LEAST_WIDTH = 240;
const DEFAULT_GAP_MS = 16_000;
/** Marks of time are so many minutes apart. */
const EVERY_MINUTES = [1, 2, 5, 10, 30, 60, 120, 180, 240, 360, 480];
const TICK_PX = 84;

interface ChartState {
  readonly width: number;
  /** The moment that is looked at: an index. */
  readonly at: number | undefined;
}

export class Chart extends Component<ChartProps, ChartState> {
  readonly #box = createRef<HTMLDivElement>();
  #observer: ResizeObserver | undefined;
  override state: ChartState = { width: 520, at: undefined };

  override componentDidMount(): void {
    this.#observer = new ResizeObserver(([entry]) => {
      const width = Math.max(LEAST_WIDTH, Math.floor(entry!.contentRect.width));
      if (width !== this.state.width) this.setState({ width });
    });
    if (this.#box.current) this.#observer.observe(this.#box.current);
  }

  override componentWillUnmount(): void {
    this.#observer?.disconnect();
  }

  get #height(): number {
    return this.props.height ?? DEFAULT_HEIGHT;
  }

  readonly #x = (agoMs: number): number => {
    const inner = this.state.width - LEFT - RIGHT;
    return LEFT + inner * (1 - Math.min(1, agoMs / this.props.windowMs));
  };

  readonly #y = (value: number): number => {
    const part = Math.min(1, Math.max(0, this.props.scale(value)));
    return this.#height - BOTTOM - (this.#height - BOTTOM - TOP) * part;
  };

  readonly #point = (event: PointerEvent): void => {
    const box = (event.currentTarget as Element).getBoundingClientRect();
    const x = event.clientX - box.left;
    let nearest: number | undefined;
    let least = Number.POSITIVE_INFINITY;
    for (const [i, ago] of this.props.agoMs.entries()) {
      const away = Math.abs(this.#x(ago) - x);
      if (away < least) [least, nearest] = [away, i];
    }
    this.setState({ at: nearest });
  };

  readonly #leave = (): void => this.setState({ at: undefined });

  readonly #key = (event: KeyboardEvent): void => {
    const last = this.props.agoMs.length - 1;
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -last, End: last }[event.key];
    if (event.key === 'Escape') this.#leave();
    if (step === undefined || last < 0) return;
    event.preventDefault();
    const from = this.state.at ?? last + 1;
    this.setState({ at: Math.min(last, Math.max(0, from + step)) });
  };

  override render(): ComponentChild {
    const { title, note, series } = this.props;
    const { width } = this.state;
    const at = this.state.at === undefined ? undefined : this.#moment(this.state.at);
    return h(
      'figure',
      { class: 'chart' },
      h('figcaption', {}, h('h2', {}, title), h('span', { class: 'quiet' }, note)),
      this.#legend(),
      h(
        'div',
        { class: 'chart-box', ref: this.#box },
        h(
          'svg',
          {
            width,
            height: this.#height,
            role: 'img',
            tabIndex: 0,
            'aria-label': this.#inWords(),
            onPointerMove: this.#point,
            onPointerDown: this.#point,
            onPointerLeave: this.#leave,
            onKeyDown: this.#key,
            onBlur: this.#leave,
          },
          this.#grid(),
          series.map((one) => this.#line(one)),
          at !== undefined && this.#rule(this.state.at!),
        ),
        at,
      ),
    );
  }

  #legend(): ComponentChild {
    const { series, say } = this.props;
    return h(
      'ul',
      { class: 'legend' },
      series.map(({ name, line, values }) => {
        const last = values.at(-1);
        const now = last === undefined || last === null ? '–' : say(last);
        return h(
          'li',
          { key: name },
          h(
            'svg',
            { class: 'swatch', viewBox: '0 0 24 8', 'aria-hidden': 'true' },
            h('path', { class: `line line-${line}`, d: 'M1 4h22' }),
          ),
          h('span', { class: 'legend-name' }, name),
          h('strong', {}, now),
        );
      }),
    );
  }

  #grid(): ComponentChild {
    const { ticks, windowMs, limit } = this.props;
    const { width } = this.state;
    const minutes = windowMs / 60_000;
    const most = Math.max(2, Math.floor((width - LEFT - RIGHT) / TICK_PX));
    const every = EVERY_MINUTES.find((step) => minutes / step <= most) ?? minutes;
    const times = Array.from({ length: Math.floor(minutes / every) + 1 }, (_, i) => i * every);
    return [
      limit &&
        h('rect', {
          class: 'beyond',
          x: LEFT,
          y: TOP,
          width: width - LEFT - RIGHT,
          height: Math.max(0, this.#y(limit.value) - TOP),
        }),
      ticks.map(({ value, label }) =>
        h(
          'g',
          { key: `y${value}` },
          h('path', { class: 'grid', d: `M${LEFT} ${this.#y(value)}H${width - RIGHT}` }),
          h(
            'text',
            { class: 'tick', x: LEFT - 8, y: this.#y(value) + 4, 'text-anchor': 'end' },
            label,
          ),
        ),
      ),
      limit && h('text', { class: 'limit', x: LEFT + 6, y: this.#y(limit.value) - 6 }, limit.label),
      times.map((ago) =>
        h(
          'text',
          {
            key: `x${ago}`,
            class: 'tick',
            x: this.#x(ago * 60_000),
            y: this.#height - 8,
            'text-anchor': ago === 0 ? 'end' : 'middle',
          },
          ago === 0 ? 'now' : agoText(ago),
        ),
      ),
    ];
  }

  #line({ name, values, line, isFilled }: Series): ComponentChild {
    const { agoMs, gapMs = DEFAULT_GAP_MS } = this.props;
    let path = '';
    let area = '';
    let begun = 0;
    let before: number | undefined;
    const floor = this.#height - BOTTOM;
    const close = (x: number): void => {
      if (path !== '' && before !== undefined) area += `H${x}V${floor}H${begun}Z`;
    };
    for (const [i, value] of values.entries()) {
      const ago = agoMs[i]!;
      const x = Math.round(this.#x(ago) * 10) / 10;
      if (value === null) {
        if (before !== undefined) close(this.#x(before));
        before = undefined;
        continue;
      }
      const y = Math.round(this.#y(value) * 10) / 10;
      const isJoined = before !== undefined && before - ago <= gapMs;
      if (!isJoined && before !== undefined) close(this.#x(before));
      path += `${isJoined ? 'L' : 'M'}${x} ${y}`;
      if (!isJoined) begun = x;
      area += isJoined ? `L${x} ${y}` : `M${x} ${floor}V${y}`;
      before = ago;
    }
    if (before !== undefined) close(this.#x(before));
    return h(
      'g',
      { key: name },
      isFilled && h('path', { class: `area area-${line}`, d: area }),
      h('path', { class: `line line-${line}`, d: path }),
      // Where it stands now; the first value of all is no line yet.
      before !== undefined &&
        h('circle', {
          class: `dot dot-${line}`,
          cx: this.#x(before),
          cy: this.#y(values.at(-1)!),
          r: 3,
        }),
    );
  }

  #rule(at: number): ComponentChild {
    const { agoMs, series } = this.props;
    const x = this.#x(agoMs[at]!);
    return h(
      'g',
      {},
      h('path', { class: 'rule', d: `M${x} ${TOP}V${this.#height - BOTTOM}` }),
      series.map(({ name, values, line }) => {
        const value = values[at];
        if (value === undefined || value === null) return null;
        return h('circle', {
          key: name,
          class: `dot dot-${line}`,
          cx: x,
          cy: this.#y(value),
          r: 3.5,
        });
      }),
    );
  }

  /** The figures of one moment. */
  #moment(at: number): ComponentChild {
    const { agoMs, series, say } = this.props;
    const ago = agoMs[at];
    if (ago === undefined) return undefined;
    const x = this.#x(ago);
    const isRight = x > this.state.width / 2;
    return h(
      'div',
      {
        class: `moment ${isRight ? 'moment-left' : ''}`,
        role: 'status',
        ref: (box: HTMLElement | null) => {
          box?.style.setProperty('--x', `${isRight ? this.state.width - x : x}px`);
        },
      },
      h('div', { class: 'moment-when' }, ago < 1_500 ? 'now' : `${span(ago)} ago`),
      series.map(({ name, values, line }) => {
        const value = values[at];
        return h(
          'div',
          { key: name, class: 'moment-row' },
          h(
            'svg',
            { class: 'swatch', viewBox: '0 0 24 8', 'aria-hidden': 'true' },
            h('path', { class: `line line-${line}`, d: 'M1 4h22' }),
          ),
          h('span', {}, name),
          h('strong', {}, value === undefined || value === null ? 'unknown' : say(value)),
        );
      }),
    );
  }

  #inWords(): string {
    const { title, series, say } = this.props;
    const each = series.map(({ name, values }) => {
      const known = values.filter((value) => value !== null);
      const last = values.at(-1);
      if (known.length === 0) return `${name} unknown`;
      const now = last === undefined || last === null ? 'unknown' : say(last);
      return `${name} now ${now}, at most ${say(Math.max(...known))}`;
    });
    return `${title}: ${each.join('; ') || 'nothing yet'}. Arrow keys show one moment.`;
  }
}

function agoText(minutes: number): string {
  return minutes % 60 === 0 ? `−${minutes / 60} h` : `−${minutes} min`;
}
