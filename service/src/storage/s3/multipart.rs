//! Objects that arrive in parts
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html>).

use super::{
    S3,
    call::{Answer, Call, trouble},
    xml::{self, Element},
};
use crate::{
    model::{DeclaredFile, StoredPart},
    storage::StorageError,
};
use keepsake_shared::{ObjectKey, capabilities::ChecksumKind, content_disposition};

/// Joining thousands of parts takes a store its time.
const COMPLETE_SECONDS: u32 = 60;

impl S3 {
    /// Begins an upload in parts. It is asked once only: a second try could leave a first upload
    /// behind that nobody knows.
    pub(super) async fn begin(&self, file: &DeclaredFile) -> Result<String, StorageError> {
        let capabilities = self.0.kind.capabilities();
        let disposition = content_disposition(&file.name, false);
        let algorithm = capabilities.parts.checksum.map(algorithm);
        let mut headers = vec![("content-type", file.media_type.as_str())];
        if let Some(algorithm) = algorithm {
            headers.push(("x-amz-checksum-algorithm", algorithm));
        }
        if !capabilities.disposition_override {
            headers.push(("content-disposition", &disposition));
        }
        let call = Call {
            key: Some(file.object_key.as_str()),
            query: &[("uploads", "")],
            headers: &headers,
            repeatable: false,
            ..Call::new("S3 CreateMultipartUpload", "POST")
        };
        let text = self.text_of(&call).await?;
        let result = parse(&text)?;
        result
            .text("UploadId")
            .filter(|id| !id.is_empty())
            .map(ToOwned::to_owned)
            .ok_or_else(|| StorageError("S3 names no upload".to_owned()))
    }

    /// The parts the store holds, in order; `None` when it knows no such upload (any more).
    pub(super) async fn parts(
        &self,
        key: &ObjectKey,
        storage_id: &str,
    ) -> Result<Option<Vec<StoredPart>>, StorageError> {
        let mut parts = Vec::new();
        let mut after = "0".to_owned();
        loop {
            let call = Call {
                key: Some(key.as_str()),
                query: &[("uploadId", storage_id), ("part-number-marker", &after)],
                ..Call::new("S3 ListParts", "GET")
            };
            let answer = self.call(&call).await?;
            if is_gone(&answer) {
                return Ok(None);
            }
            if answer.status != 200 {
                return Err(trouble(&call, &answer));
            }
            let text = answer.text().await?;
            let page = parse(&text)?;
            for part in page.all("Part") {
                parts.push(stored_part(part)?);
            }
            match page.text("NextPartNumberMarker") {
                Some(next) if page.text("IsTruncated") == Some("true") && next != after => {
                    after = next.to_owned();
                }
                _ => break,
            }
        }
        parts.sort_unstable_by_key(|part| part.number);
        Ok(Some(parts))
    }

    /// Completes a multipart upload. One that no longer exists was completed or aborted before: the caller
    /// inspects the object next. The same for one whose object exists already.
    pub(super) async fn complete(
        &self,
        key: &ObjectKey,
        storage_id: &str,
        parts: &[StoredPart],
    ) -> Result<(), StorageError> {
        let capabilities = self.0.kind.capabilities();
        let body = completion(parts, capabilities.parts.checksum).into();
        let mut headers = vec![("content-type", "application/xml")];
        if capabilities.conditional_complete {
            headers.push(("if-none-match", "*"));
        }
        let call = Call {
            key: Some(key.as_str()),
            query: &[("uploadId", storage_id)],
            headers: &headers,
            body: Some(&body),
            seconds: COMPLETE_SECONDS,
            ..Call::new("S3 CompleteMultipartUpload", "POST")
        };
        let answer = self.call(&call).await?;
        if answer.status == 412 || is_gone(&answer) {
            return Ok(());
        }
        if answer.status != 200 {
            return Err(trouble(&call, &answer));
        }
        // An error may follow after 200, which was sent to keep the connection.
        let text = answer.text().await?;
        let result = parse(&text)?;
        match result.name() {
            "CompleteMultipartUploadResult" => Ok(()),
            _ => Err(StorageError(format!(
                "S3 joins no parts: {}",
                result.text("Code").unwrap_or("unknown")
            ))),
        }
    }

    /// Aborts an upload; one that no longer exists counts as aborted.
    pub(super) async fn abort(
        &self,
        key: &ObjectKey,
        storage_id: &str,
    ) -> Result<(), StorageError> {
        let call = Call {
            key: Some(key.as_str()),
            query: &[("uploadId", storage_id)],
            ..Call::new("S3 AbortMultipartUpload", "DELETE")
        };
        let answer = self.call(&call).await?;
        if matches!(answer.status, 200 | 204) || is_gone(&answer) {
            Ok(())
        } else {
            Err(trouble(&call, &answer))
        }
    }

    async fn text_of(&self, call: &Call<'_>) -> Result<String, StorageError> {
        let answer = self.call(call).await?;
        if answer.status == 200 {
            answer.text().await
        } else {
            Err(trouble(call, &answer))
        }
    }
}

/// Whether the store says that it knows no such upload.
const fn is_gone(answer: &Answer) -> bool {
    answer.status == 404
}

const fn algorithm(kind: ChecksumKind) -> &'static str {
    match kind {
        ChecksumKind::Sha256 => "SHA256",
        ChecksumKind::Crc32c => "CRC32C",
    }
}

const fn checksum_element(kind: ChecksumKind) -> &'static str {
    match kind {
        ChecksumKind::Sha256 => "ChecksumSHA256",
        ChecksumKind::Crc32c => "ChecksumCRC32C",
    }
}

fn parse(text: &str) -> Result<Element<'_>, StorageError> {
    Element::parse(text).map_err(|error| StorageError(format!("S3: {error}")))
}

fn stored_part(part: &Element<'_>) -> Result<StoredPart, StorageError> {
    let number = part
        .text("PartNumber")
        .and_then(|number| number.parse().ok());
    let size = part.text("Size").and_then(|size| size.parse().ok());
    let (Some(number), Some(size), Some(etag)) = (number, size, part.text("ETag")) else {
        return Err(StorageError("S3 lists a part it does not know".to_owned()));
    };
    let checksum = [ChecksumKind::Sha256, ChecksumKind::Crc32c]
        .into_iter()
        .find_map(|kind| part.text(checksum_element(kind)));
    Ok(StoredPart {
        number,
        etag: etag.to_owned(),
        size,
        checksum: checksum.map(ToOwned::to_owned),
    })
}

/// The body of CompleteMultipartUpload.
fn completion(parts: &[StoredPart], checksum: Option<ChecksumKind>) -> String {
    let mut body = String::from("<CompleteMultipartUpload>");
    for part in parts {
        body.push_str("<Part>");
        push_element(&mut body, "PartNumber", &part.number.to_string());
        push_element(&mut body, "ETag", &part.etag);
        if let (Some(kind), Some(value)) = (checksum, &part.checksum) {
            push_element(&mut body, checksum_element(kind), value);
        }
        body.push_str("</Part>");
    }
    body.push_str("</CompleteMultipartUpload>");
    body
}

fn push_element(out: &mut String, name: &str, text: &str) {
    out.push('<');
    out.push_str(name);
    out.push('>');
    xml::push_escaped(out, text);
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_part_is_named_as_it_was_listed() {
        let listed = "<ListPartsResult><Part><PartNumber>7</PartNumber><ETag>&quot;e&quot;</ETag>\
            <Size>5</Size><ChecksumSHA256>AA==</ChecksumSHA256></Part></ListPartsResult>";
        let listed = parse(listed).unwrap();
        let part = stored_part(listed.all("Part").next().unwrap()).unwrap();
        assert_eq!((part.number, part.size), (7, 5));
        assert_eq!(
            completion(&[part], Some(ChecksumKind::Sha256)),
            "<CompleteMultipartUpload><Part><PartNumber>7</PartNumber><ETag>\"e\"</ETag>\
             <ChecksumSHA256>AA==</ChecksumSHA256></Part></CompleteMultipartUpload>"
        );
        let other =
            parse("<Part><PartNumber>70000</PartNumber><ETag/><Size>5</Size></Part>").unwrap();
        assert!(stored_part(&other).is_err());
    }
}
