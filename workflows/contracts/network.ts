/** Whether an IPv4 address lies in a network; names and IPv6 cannot be told here. Pure. */
export function within(address: string, network: string): 'yes' | 'no' | 'maybe' {
  const [base = '', length = '32'] = network.split('/');
  const [of, at] = [numberOf(base), numberOf(address)];
  if (of === undefined || at === undefined) return address === network ? 'yes' : 'maybe';
  const size = 2 ** (32 - Number(length));
  return Math.floor(of / size) === Math.floor(at / size) ? 'yes' : 'no';
}

/** Whether this is an address or a network in figures: what a firewall and PostgreSQL compare with, and not a name. Pure. */
export const isAddress = (text: string): boolean =>
  /^(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)(?:\/\d{1,3})?$/.test(text);

function numberOf(address: string): number | undefined {
  if (!/^\d{1,3}(\.\d{1,3}){3}$/.test(address)) return undefined;
  return address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
}
