/** A socket that tells how many bytes pass through it. */
import type { ByteSocket } from './byte-socket.js';

/** The same socket; what is received is told as it comes, what is sent as it is handed over. */
export function countedSocket(
  socket: ByteSocket,
  received: (bytes: number) => void,
  sent: (bytes: number) => void,
): ByteSocket {
  socket.on('data', (chunk) => received(chunk.length));
  return {
    get destroyed() {
      return socket.destroyed;
    },
    get proven() {
      return socket.proven;
    },
    get remoteAddress() {
      return socket.remoteAddress;
    },
    get writableLength() {
      return socket.writableLength;
    },
    on: socket.on.bind(socket),
    write: (bytes, done) => {
      sent(bytes.length);
      return socket.write(bytes, done);
    },
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    end: () => socket.end(),
    destroy: () => socket.destroy(),
    destroySoon: () => socket.destroySoon(),
  };
}
