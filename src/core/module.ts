/** The plug-in contract: kind + schema + create. All built-in ones are listed in `modules.ts`. */
import type { ZodType } from 'zod';
import type { Clock } from './clock.ts';

export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** What the composition root hands to every module. Nothing else is ambient. */
export interface ModuleEnv {
  /** The name this instance has in the config file. */
  readonly name: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly mode: 'development' | 'production';
  /** Directory that relative paths of the config are relative to. */
  readonly baseDir: string;
}

export interface Module<Config, Product, Env extends ModuleEnv = ModuleEnv> {
  readonly kind: string;
  readonly schema: ZodType<Config>;
  create(config: Config, env: Env): Promise<Product> | Product;
}
