export interface DemoOptions {
  once: boolean;
  megabytes: number;
  local: boolean;
  database?: string;
}

/** Where the demo's database lives: a machine of the lab, or this one. */
export interface Place {
  /** What guardia needs in its environment to look after it. */
  environment: Record<string, string>;
  /** For people: where to look. */
  links: string[];
  down(): Promise<void>;
}
