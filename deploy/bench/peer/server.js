// What a team would write instead of Tranche: one service, one database, everything in the caller's transaction. It does less: no
// audit record, no metrics, no notices, no allocation status; only the payment, its line, an outbox row and
// the stored answer: six statements.
import Fastify from 'fastify';
import { drizzle } from 'drizzle-orm/node-postgres';
import { eq, sql } from 'drizzle-orm';
import { date, json, numeric, pgTable, text, uuid } from 'drizzle-orm/pg-core';
import pg from 'pg';

const answers = pgTable('answers', { key: text().primaryKey(), reply: json().notNull() });
const lines = pgTable('lines', {
  id: uuid().primaryKey(), amount: numeric().notNull(), paid: numeric().notNull(),
});
const payments = pgTable('payments', {
  id: uuid().primaryKey().defaultRandom(), lineId: uuid('line_id').notNull(), amount: numeric().notNull(), method: text().notNull(),
  reference: text().notNull(), receivedOn: date('received_on').notNull(),
});
const outbox = pgTable('outbox', { id: uuid().primaryKey().defaultRandom(), body: json().notNull() });

const db = drizzle(new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 32 }));
const app = Fastify();

app.post('/api/v1/call-lines/:line/payments', async (request, reply) => {
  const key = request.headers['idempotency-key'];
  const { amount, method, reference, received_on: receivedOn } = request.body;
  const payment = await db.transaction(async (tx) => {
    const known = await tx.select().from(answers).where(eq(answers.key, key));
    if (known.length > 0) return known[0].reply;
    const [line] = await tx.select().from(lines).where(eq(lines.id, request.params.line)).for('update');
    const [added] = await tx.insert(payments).values({ lineId: line.id, amount, method, reference, receivedOn }).returning();
    await tx.update(lines).set({ paid: sql`${lines.paid} + ${amount}` }).where(eq(lines.id, line.id));
    await tx.insert(outbox).values({ body: added });
    await tx.insert(answers).values({ key, reply: added });
    return added;
  });
  return reply.code(201).send(payment);
});

await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT) });
console.log('listening');
