/** A socket whose answers come in the order of what was asked. */
import { once } from 'node:events';
import net from 'node:net';

export class Link {
  #socket;
  #heard = Buffer.alloc(0);
  #waits = [];
  #parse;
  #error;

  /**
   * @param parse is given what was heard; calls `answer(value)` for each whole answer, returns how
   *   many bytes it has read
   */
  static async open(port, parse) {
    const socket = net.connect({ host: '127.0.0.1', port, noDelay: true });
    await once(socket, 'connect');
    return new Link(socket, parse);
  }

  constructor(socket, parse) {
    this.#socket = socket;
    this.#parse = parse;
    socket.on('data', (chunk) => this.#data(chunk));
    socket.on('error', (error) => this.#fail(error));
    socket.on('close', () => this.#fail(new Error('the server closed the connection')));
  }

  #data(chunk) {
    const heard = this.#heard.length === 0 ? chunk : Buffer.concat([this.#heard, chunk]);
    try {
      const read = this.#parse(heard, (value) => this.#waits.shift()?.resolve(value));
      this.#heard = heard.subarray(read);
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error) {
    this.#error ??= error;
    for (const { reject } of this.#waits.splice(0)) reject(this.#error);
  }

  write(bytes) {
    this.#socket.write(bytes);
  }

  /** Sends, and resolves with the answer. */
  ask(bytes) {
    if (this.#error) return Promise.reject(this.#error);
    this.#socket.write(bytes);
    return new Promise((resolve, reject) => this.#waits.push({ resolve, reject }));
  }

  close() {
    this.#socket.destroy();
  }
}
