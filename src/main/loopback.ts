/** Whether a host name is this machine's own, which nobody else can reach or be reached by. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}
