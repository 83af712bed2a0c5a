//! Taking bytes in: they are counted and hashed on their way to a file that is on the disk when they are there.

use super::{
    folder::keep_digest,
    folders::{Folders, failed},
    incoming::Incoming,
    waiting::{MAX_WAIT, PAUSE},
};
use crate::drain;
use axum::body::{Body, Bytes};
use http_body::Frame;
use http_body_util::BodyExt;
use keepsake_service::{
    runtime::Content,
    storage::{PutError, StorageError},
};
use keepsake_shared::Sha256Digest;
use sha2::{Digest, Sha256};
use std::{fs::File, sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    time::{sleep, timeout},
};

/// How long an upload may send nothing. Then it has lost its connection, and the next has its place.
const MAX_SILENCE: Duration = Duration::from_secs(60);

/// A file of one of the places that a target has in `incoming/`, for which is waited. So nobody who sends the same over
/// and over takes more of the disk than those.
///
/// # Errors
/// All places stay taken, or the disk's.
pub(super) async fn incoming(
    folders: &Arc<Folders>,
    target: String,
) -> Result<(Incoming, File), PutError> {
    let target = Arc::new(target);
    let mut waited = Duration::ZERO;
    loop {
        let wanted = Arc::clone(&target);
        let held = folders.blocking("create", move |folders| Incoming::any(folders, &wanted));
        if let Some(held) = held.await.map_err(PutError::Failed)? {
            return Ok(held);
        }
        if waited >= MAX_WAIT {
            return Err(PutError::Busy);
        }
        sleep(PAUSE).await;
        waited += PAUSE;
    }
}

/// Takes bytes in, as a file that is on the disk. It is removed when it is dropped without being moved.
///
/// # Errors
/// They are not those that were declared, the client breaks off, or the disk's.
pub(super) async fn receive(
    folders: &Arc<Folders>,
    (incoming, file): (Incoming, File),
    content: Content,
    size: u64,
    sha256: &Sha256Digest,
) -> Result<Incoming, PutError> {
    let mut file = tokio::fs::File::from_std(file);
    let (mut body, mut seen, mut digest) = (content.body, 0, Sha256::new());
    while let Some(frame) = next_frame(&mut body).await? {
        let bytes = frame.into_data().unwrap_or_default();
        seen += bytes.len() as u64;
        if seen > size {
            return Err(PutError::LengthMismatch);
        }
        digest.update(&bytes);
        if let Err(error) = file.write_all(&bytes).await {
            // The place on the disk is needed, and the client is to see the answer.
            drop((file, incoming));
            drain::read_off(&mut body).await;
            return Err(PutError::Failed(failed("write", &error)));
        }
    }
    if seen != size {
        return Err(PutError::LengthMismatch);
    }
    let digest: [u8; 32] = digest.finalize().into();
    if digest != *sha256.as_bytes() {
        return Err(PutError::Sha256Mismatch);
    }
    let flushed = file.flush().await;
    flushed.map_err(|error| PutError::Failed(failed("write", &error)))?;
    let file = file.into_std().await;
    folders
        .blocking("sync", move |_| {
            keep_digest(&file, &digest);
            file.sync_all()
        })
        .await
        .map_err(PutError::Failed)?;
    Ok(incoming)
}

/// The next bytes of an upload.
async fn next_frame(body: &mut Body) -> Result<Option<Frame<Bytes>>, PutError> {
    let frame = timeout(MAX_SILENCE, body.frame()).await;
    let frame = frame.map_err(|_| PutError::Stalled(MAX_SILENCE))?;
    frame.transpose().map_err(|error| {
        PutError::BrokenOff(StorageError(format!("the client broke off: {error}")))
    })
}
