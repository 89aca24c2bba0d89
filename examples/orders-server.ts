/**
 * An orders database as an MCP server, for trying the gateway out: one SQLite table and three tools, from harmless to
 * destructive. It runs whatever SQL it is given, as many such servers do; the gateway in front is what says no.
 *
 *     node examples/orders-server.ts 7001
 */
import { DatabaseSync } from 'node:sqlite';
import type { NodeIncomingMessageLike } from '@modelcontextprotocol/node';
import { localhostHostValidation, toNodeHandler } from '@modelcontextprotocol/node';
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server';
import { z } from 'zod';
import { serve } from './serve.ts';

const db = new DatabaseSync(process.env.ORDERS_DB ?? ':memory:');

function seed(): void {
  db.exec(`
    DROP TABLE IF EXISTS orders;
    CREATE TABLE orders (
      id INTEGER PRIMARY KEY, customer TEXT NOT NULL, region TEXT NOT NULL, total REAL NOT NULL,
      status TEXT NOT NULL, created_at TEXT NOT NULL
    );`);
  const insert = db.prepare('INSERT INTO orders (customer, region, total, status, created_at) VALUES (?, ?, ?, ?, ?)');
  const customers = ['Ada', 'Grace', 'Edsger', 'Barbara', 'Donald'];
  const regions = ['north', 'south', 'east', 'west'];
  const states = ['open', 'paid', 'shipped'];
  for (let i = 0; i < 40; i++) {
    const day = String((i % 28) + 1).padStart(2, '0');
    insert.run(
      customers[i % 5] ?? 'Ada',
      regions[i % 4] ?? 'north',
      20 + ((i * 37) % 200),
      states[i % 3] ?? 'open',
      `2026-01-${day}`,
    );
  }
}
seed();

const text = (value: unknown) => ({ content: [{ type: 'text' as const, text: JSON.stringify(value) }] });

function createOrdersServer(): McpServer {
  const server = new McpServer({ name: 'orders', version: '1.0.0' });
  server.registerTool(
    'execute_query',
    {
      description: 'Runs one SQL statement on the orders database and returns its rows.',
      inputSchema: z.object({ query: z.string().describe('SQLite SQL on the table orders') }),
    },
    ({ query }) => text(db.prepare(query).all()),
  );
  server.registerTool(
    'update_order_status',
    {
      description: 'Sets the status of one order.',
      inputSchema: z.object({ order_id: z.number().int(), status: z.enum(['open', 'paid', 'shipped', 'cancelled']) }),
      annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: true },
    },
    ({ order_id, status }) => text(db.prepare('UPDATE orders SET status = ? WHERE id = ?').run(status, order_id)),
  );
  server.registerTool(
    'reset_database',
    {
      description: 'Drops all orders and starts again with the sample data.',
      inputSchema: z.object({}),
      annotations: { readOnlyHint: false, destructiveHint: true },
    },
    () => {
      seed();
      return text({ reset: true });
    },
  );
  return server;
}

const handler = toNodeHandler(createMcpHandler(createOrdersServer));
const validHost = localhostHostValidation();
await serve((request, response) => {
  if (validHost(request, response)) void handler(request as NodeIncomingMessageLike, response);
}, '/mcp');
