/** How a part of a node tells what has happened there: an event by its name. */
export type Emit<Events> = (
  ...told: { [K in keyof Events]: [name: K, event: Events[K]] }[keyof Events]
) => void;
