// Answers with what has come through the queue, in the order in which it came.
const taken = [];

export default {
    async queue(batch) {
        for (const message of batch.messages) taken.push(message.body);
    },
    async fetch() {
        return Response.json(taken);
    },
};
