// The least that a worker with a database can do, by the driver that Hyperdrive's documentation names.
import { Client } from 'pg';

export default {
    async fetch(_request, env, context) {
        const client = new Client({ connectionString: env.HYPERDRIVE.connectionString });
        await client.connect();
        const { rows } = await client.query('SELECT 1 AS one');
        context.waitUntil(client.end());
        return Response.json(rows);
    },
};
