//! Reads off what nobody wants. A client that is still sending would otherwise lose the connection and never see the answer.

use axum::body::{Bytes, HttpBody};
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::time::timeout;

/// How much of a body is read off, and for how long.
const MAX_BYTES: usize = 32 << 20;
const MAX_TIME: Duration = Duration::from_secs(30);

/// Reads a body to its end, within bounds. Whoever sends for longer is answered meanwhile.
pub(crate) async fn read_off<B: HttpBody<Data = Bytes> + Unpin>(body: &mut B) {
    let read = async {
        let mut seen = 0;
        while seen < MAX_BYTES
            && let Some(Ok(frame)) = body.frame().await
        {
            seen += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    let _ = timeout(MAX_TIME, read).await;
}
