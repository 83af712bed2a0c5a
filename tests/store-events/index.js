// The JSON of every POST is one message.
export default {
    async fetch(request, env) {
        if (request.method === 'POST') await env.EVENTS.send(await request.json());
        return new Response(null, { status: 204 });
    },
};
