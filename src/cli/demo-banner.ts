/** What the demo prints when it is ready: four commands to paste. `test/scenarios/demo.test.ts` runs them as printed. */
import type { DemoFile } from './demo-config.ts';

export interface DemoStep {
  readonly title: string;
  readonly command: string;
}

/** The keys are read from demo.json by each command, so that none is shown on a screen. */
export function demoSteps(demo: DemoFile, file: string): DemoStep[] {
  const key = (name: string) => `-H "X-API-Key: $(node -p 'require("${file}").keys.${name}')"`;
  const json = "-H 'content-type: application/json'";
  const query = (sql: string) =>
    `'${JSON.stringify({ server_name: 'orders', tool_name: 'execute_query', parameters: { query: sql } })}'`;
  const chat = `'${JSON.stringify({ model: demo.model, stream: true, messages: [{ role: 'user', content: 'What is a portcullis?' }] })}'`;
  return [
    {
      title: 'A developer reads orders: allowed.',
      command: `curl -s ${demo.gateway}/tools/invoke ${key('developer')} ${json} -d ${query('SELECT id, customer, total FROM orders LIMIT 3')}`,
    },
    {
      title: 'The same developer deletes them: denied, with the reasons.',
      command: `curl -s ${demo.gateway}/tools/invoke ${key('developer')} ${json} -d ${query('DELETE FROM orders')}`,
    },
    {
      title: 'An analyst sees only the tools an analyst may use.',
      command: `curl -s ${demo.gateway}/tools ${key('analyst')}`,
    },
    {
      title: 'A streamed chat; the model key stays inside the gateway.',
      command: `curl -sN ${demo.gateway}/v1/chat/completions ${key('developer')} ${json} -d ${chat}`,
    },
  ];
}

export function demoBanner(demo: DemoFile, file: string, milliseconds: number): string {
  const steps = demoSteps(demo, file)
    .map(({ title, command }, i) => `${i + 1}. ${title}\n\n   ${command}\n`)
    .join('\n');
  return `
Portcullis is ready after ${(milliseconds / 1000).toFixed(1)} s.

  gateway         ${demo.gateway}
  administration  ${demo.admin}
  keys, tokens    ${file}

${steps}
Ctrl-C ends everything.
`;
}
