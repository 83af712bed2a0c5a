// Signs the same PUT with each of both signers: `/keepsake?count=N` and `/aws4fetch?count=N`.
import { AwsV4Signer } from 'aws4fetch';
import module from './build/keepsake_bench_presign_bg.wasm';
import { initSync, presign_many } from './build/keepsake_bench_presign.js';

initSync({ module });

const ID = 'AKIAIOSFODNN7EXAMPLE';
const SECRET = 'wJalrXUtnFEMI/K7MDENG';
const ENDPOINT = 'https://acct.r2.cloudflarestorage.com';
const BUCKET = 'bucket';
const KEY = 't/acme/post/7/0198f7d0-1111-7aaa-8bbb-000000000001.png';
const HEADERS = [
    ['content-length', '12345'],
    ['content-type', 'image/png'],
    ['if-none-match', '*'],
    ['x-amz-checksum-sha256', '47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='],
];

function keepsake(count) {
    return presign_many(count, ENDPOINT, BUCKET, KEY, HEADERS.flat(), [ID, SECRET], '2026-09-01T00:00:00Z');
}

async function aws4fetch(count) {
    // Where it keeps signing keys.
    const cache = new Map();
    let signed = '';
    for (let n = 0; n < count; n += 1) {
        const signer = new AwsV4Signer({
            method: 'PUT',
            url: `${ENDPOINT}/${BUCKET}/${KEY}?X-Amz-Expires=900`,
            headers: HEADERS,
            accessKeyId: ID,
            secretAccessKey: SECRET,
            service: 's3',
            region: 'auto',
            datetime: '20260901T000000Z',
            signQuery: true,
            allHeaders: true,
            cache,
        });
        signed = (await signer.sign()).url.href;
    }
    return signed;
}

export default {
    async fetch(request) {
        const { pathname, searchParams } = new URL(request.url);
        const count = Number(searchParams.get('count'));
        return new Response(await (pathname === '/keepsake' ? keepsake(count) : aws4fetch(count)));
    },
};
